"""evidence.json: what was measured of the finalist beyond its gates. Nothing here decides; everything here explains."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fusion_models.contribution import Contribution
from fusion_models.data import RankingDataset
from fusion_models.files import write_whole
from fusion_models.metrics import Interval, holm, two_sided_p
from fusion_models.metrics.intervals.ensembles import Arm
from fusion_models.metrics.intervals.weights import counted, of_rows, weighted_mean
from fusion_models.quantities import Outputs
from search.analysis.judged import Evidence
from search.analysis.measure import Clusters, mean_interval, mean_ndcg
from search.analysis.shapley import shapley_shares
from search.pipeline.confirmation.gathering import Measured, arm_of_reference
from search.pipeline.context import Run
from search.run_store.folder import json_text

Values = npt.NDArray[np.float64]


def write_evidence(
    run: Run, whole: Measured, evidence: Evidence, contribution: Contribution | None, *, chance: Values, level: float
) -> dict[str, Any]:
    """Contribution, refits, fusion gain and subdomains of the finalist on the deciding split, at this look's level.

    `contribution`: None where it could not be measured.
    """
    artefact, given = whole.artefact, contribution
    own = whole.plan.whole.modalities
    values = refit_values(whole, chance)
    shares = artefact.shares
    found = {
        "split": run.deciding,
        "members": whole.members,
        "trainings": {key.slug: len(runs) for key, runs in whole.trained.items()},
        "quantities": {name: plain(interval) for name, interval in evidence.quantities.items()},
        "refit_gain": {name: plain(interval) for name, interval in evidence.refit_gain.items()},
        "refit_values": values,
        "refit_shapley": refit_shapley(whole, chance, level),
        "leads": {role: {"rival": lead.rival} | plain(lead.interval) for role, lead in evidence.rivals.items() if lead},
        "strongest_blind": {"rival": lead.rival} | plain(lead.interval) if (lead := evidence.strongest_blind) else None,
        "probes": [
            {"name": probe.name, "counts": probe.counts} | plain(probe.gain) for probe in evidence.archive.probes
        ],
        "masked_values": given.masked_values if given else {},
        "masked_shapley": given.masked_shapley if given else {},
        "interaction_gain": weighted_mean(given.interaction_gain, artefact.lists.uneven) if given else None,
        "cka": given.cka if given else {},
        "effective_rank": given.effective_rank if given else {},
        "ssim": (given.ssim or None) if given else None,
        "fusion_gain": fusion_gains(whole, level),
        "subdomains": subdomain_gains(run.data, artefact, clusters=whole.clusters, level=level),
        "attention_by_layer": None
        if shares is None
        else np.average(shares, axis=0, weights=artefact.lists.documents * artefact.lists.weights).tolist(),
        "modalities": list(own),
    }
    write_whole(run.folder.path / "evidence.json", json_text(found))
    return found


def refit_values(whole: Measured, chance: Values) -> dict[str, float]:
    """Mean nDCG of the finalist's recipe retrained on each subset, `text+metadata` -> value; `` is none of them."""
    out = {"": weighted_mean(chance, whole.artefact.lists.uneven)}
    for key, arm in whole.arms.items():
        if key.of == "finalist":
            out["+".join(key.modalities)] = arm_mean(arm)
    return out


def refit_shapley(whole: Measured, chance: Values, level: float = 0.95) -> dict[str, Any] | None:
    """Shares of the refitted Shapley values with their intervals; None unless every subset was trained."""
    arms = {frozenset(key.modalities): arm for key, arm in whole.arms.items() if key.of == "finalist"}
    found = shapley_shares(whole.plan.whole.modalities, arms, chance, clusters=whole.clusters, level=level)
    return {name: plain(interval) for name, interval in found.items()} or None


def arm_mean(arm: Arm) -> float:
    """Mean of an arm over queries, by their weights."""
    return weighted_mean(arm.mean, arm.weights)


def fusion_gains(whole: Measured, level: float = 0.95) -> dict[str, dict[str, Any]]:
    """nDCG of the finalist minus each rival's: best single modality, best pair, weighted sums, LambdaMART, tuned V1."""
    rivals: dict[str, tuple[str, Arm | Values]] = {}
    for title, size in (("best single modality", 1), ("best pair", 2)):
        refits = {
            "+".join(key.modalities): arm
            for key, arm in whole.arms.items()
            if key.of == "finalist" and len(key.modalities) == size < len(whole.plan.whole.modalities)
        }
        if refits:
            best = max(refits, key=lambda name: arm_mean(refits[name]))
            rivals[title] = best, refits[best]
    singles = [r for r in whole.references if r.role == "single" and r.measured]
    if singles and "best single modality" not in rivals:
        best_single = max(singles, key=lambda r: mean_ndcg(r.outputs))
        arm = arm_of_reference(best_single, whole.size)
        if arm is not None:
            rivals["best single modality"] = best_single.name.removesuffix(" alone"), arm
    for reference in whole.references:
        arm = arm_of_reference(reference, whole.size) if reference.role != "single" else None
        if arm is not None:
            rivals[reference.name] = reference.name, arm
    if whole.plan.base != whole.plan.whole and whole.plan.base in whole.arms:
        rivals["base recipe"] = "base recipe", whole.arms[whole.plan.base]
    out = {}
    for title, (name, rival) in rivals.items():
        gain = whole.lead(rival, level)
        if gain is not None:
            out[title] = {"rival": name} | plain(gain)
    return out


def subdomain_gains(
    data: RankingDataset, artefact: Outputs, *, clusters: Clusters, level: float = 0.95
) -> list[dict[str, Any]]:
    """The artefact's gain over V1 in each subdomain, with p corrected by Holm over the subdomains."""
    gain, weights = artefact.ndcg - artefact.lists.v1_ndcg, artefact.lists.uneven
    names = np.asarray(data.subdomain)[artefact.lists.rows]
    out: list[dict[str, Any]] = []
    for name in sorted({str(n) for n in names}):
        chosen = (names == name) & counted(gain, weights)
        if chosen.sum() < 2:
            continue
        groups = clusters[chosen] if clusters is not None else None
        interval = mean_interval(gain[chosen], of_rows(weights, chosen), clusters=groups, level=level)
        out.append({"subdomain": name, "queries": int(chosen.sum()), "p": _p(interval)} | plain(interval))
    for entry, adjusted in zip(out, holm([entry["p"] for entry in out]) if out else [], strict=True):
        entry["p_holm"] = float(adjusted)
    return out


def _p(interval: Interval) -> float:
    """Two-sided p of a mean of 0, by the t test that the interval is made of."""
    found = two_sided_p(interval)
    return found if found == found else 1.0


def plain(interval: Interval) -> dict[str, float]:
    """`mean`, `ci_low`, `ci_high`."""
    return {"mean": interval.mean, "ci_low": interval.low, "ci_high": interval.high}
