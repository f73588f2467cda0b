"""What a runtime variant is worth itself: its own gain over V1, and what blanking the suspect costs it.

A variant that rounds, or a smaller recipe, is another ranker. It may stand for V2's speed only as far as it is worth
what V2 must be worth, so its own numbers are held against the gates that ask for them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from fusion_models.data import RankingDataset
from fusion_models.evaluation import score_with
from fusion_models.export import Scorer
from fusion_models.metrics import blank
from fusion_models.quantities import Outputs, drop_name, quantity
from search.analysis.gates import status_of
from search.analysis.measure import Clusters, quantity_interval
from spaces import Phase

EXACT = "exact"
HOLDS = "holds"
FAILS = "fails"


def variant_outputs(scorer: Scorer, data: RankingDataset, split: str, suspect: str | None = None) -> Outputs:
    """What a scorer says of a split's lists; with `suspect` also where that modality's features are 0."""
    scored = score_with(scorer, data, split)
    outputs = Outputs(lists=scored.lists(), scores=scored.scores.double().numpy())
    if suspect is None:
        return outputs
    blinded = score_with(lambda batch: scorer(blank(batch, suspect, "zero")), data, split)
    return dataclasses.replace(outputs, blanked={(suspect, "zero"): blinded.scores.double().numpy()[None]})


def own_quality(phase: Phase, outputs: Outputs, clusters: Clusters) -> dict[str, Any]:
    """Columns of latency.csv: gain and drop with CI95, `quality` (`holds` or `fails`), `fails_in` (which of the two).

    It fails where a gate of the phase on one of the two fails on its whole interval: a variant that is merely not known
    well enough may still keep V2 from the archive.
    """
    row: dict[str, Any] = {}
    failed = []
    for name in ("ndcg_gain", drop_name(phase.suspect)):
        found = quantity_interval(quantity(name, (phase.suspect,)), outputs, clusters=clusters)
        if found is None:
            continue
        row |= {name: found.mean, f"{name}_ci_low": found.low, f"{name}_ci_high": found.high}
        gates = [gate for gate in (*phase.gates, *phase.resume_gates) if gate.quantity == name]
        failed += [name] if any(status_of(gate, found) == "fail" for gate in gates) else []
    return row | {"quality": FAILS if failed else HOLDS, "fails_in": ", ".join(failed)}
