"""Probes that do not share the ranker family's blindness: what a modality is worth to trees and to products.

A probe bounds what a modality gives only where it would find something. `columns` lays a dataset out as rows, `trees`
(LambdaMART) and `products` (with `second_order`) are the probes, `scores` what one gives back, `power` plants a
signal and asks whether the probe finds it. May use data, metrics, `lambdamart` and the evaluation, never the rankers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from fusion_models.metrics import Interval
from fusion_models.probes.power import WORTH, Plant, Power, no_power, plant_signal, probe_power
from fusion_models.probes.products import NAME as PRODUCTS
from fusion_models.probes.products import product_pair, product_probe
from fusion_models.probes.scores import ProbePair, ProbeScores
from fusion_models.probes.trees import NAME as TREES
from fusion_models.probes.trees import tree_pair, tree_probe

PROBES = {TREES: tree_pair, PRODUCTS: product_pair}
"""Name -> (dataset, split, ...) -> `ProbePair`."""

Reading = Literal["nothing", "something", "undecided", "not measured"]


def read_probes(gains: Mapping[str, Interval], powers: Mapping[str, Power], threshold: float) -> Reading:
    """What the probes say of a modality whose gain each of them measured.

    `something`: a probe's whole interval lies above 0, whether the probe counts or not. `not measured`: no probe found
    what was planted. `nothing`: every probe that counts ends below the threshold. Else `undecided`.
    """
    if any(gain.low > 0 for gain in gains.values()):
        return "something"
    counting = [name for name in gains if name in powers and powers[name].counts]
    if not counting:
        return "not measured"
    return "nothing" if all(gains[name].high < threshold for name in counting) else "undecided"


__all__ = [
    "PROBES",
    "PRODUCTS",
    "TREES",
    "WORTH",
    "Plant",
    "Power",
    "ProbePair",
    "ProbeScores",
    "Reading",
    "no_power",
    "plant_signal",
    "probe_power",
    "product_pair",
    "product_probe",
    "read_probes",
    "tree_pair",
    "tree_probe",
]
