"""evidence.json: what was measured of the finalist beyond its gates. Nothing here decides; everything here explains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fusion_models.baselines import Baseline
from fusion_models.contribution import Contribution
from fusion_models.data import RankingDataset
from fusion_models.files import write_whole
from fusion_models.metrics import Interval, holm, seed_interval, shapley, sign_flip_p
from search.analysis.measure import Arrays, difference, paired
from search.run_store.folder import RunFolder, json_text
from search.run_store.job import Role

Clusters = npt.NDArray[np.int64] | None
Values = dict[str, float]


Seeds = Mapping[int, Arrays]
"""The trainings of one recipe by their seed."""


def refit_values(of_finalist: Seeds, refits: Mapping[Role, Seeds], modalities: Sequence[str], chance: float) -> Values:
    """Mean nDCG of the finalist's recipe retrained on each subset, `text+metadata` -> value; `` is chance."""
    of_recipe = {"+".join(role.modalities): runs for role, runs in refits.items() if role.kind == "refit" and runs}
    values = {name: _mean(runs.values()) for name, runs in of_recipe.items()}
    return values | {"": chance, "+".join(modalities): _mean(of_finalist.values())}


def write_evidence(
    folder: RunFolder,
    data: RankingDataset,
    split: str,
    *,
    of_finalist: Seeds,
    refits: Mapping[Role, Seeds],
    modalities: Sequence[str],
    baselines: Sequence[Baseline],
    contribution: Contribution,
    quantities: Mapping[str, Interval],
    refit_gain: Mapping[str, Interval],
    chance: float,
    clusters: Clusters,
    seed: int,
) -> dict[str, Any]:
    """Contribution, refits, fusion gain and subdomains of the finalist on the deciding split."""
    values = refit_values(of_finalist, refits, modalities, chance)
    by_subset = {frozenset(filter(None, name.split("+"))): value for name, value in values.items()}
    complete = len(by_subset) == 2 ** len(modalities)
    runs = list(of_finalist.values())
    interaction = contribution.interaction_gain
    found = {
        "split": split,
        "quantities": {name: plain(interval) for name, interval in quantities.items()},
        "refit_gain": {name: plain(interval) for name, interval in refit_gain.items()},
        "refit_values": values,
        "refit_shapley": shapley(by_subset) if complete else None,
        "masked_values": contribution.masked_values,
        "masked_shapley": contribution.masked_shapley,
        "interaction_gain": float(np.nanmean(interaction)),
        "cka": contribution.cka,
        "effective_rank": contribution.effective_rank,
        "ssim": contribution.ssim or None,
        "fusion_gain": fusion_gains(of_finalist, refits, baselines, clusters),
        "subdomains": subdomain_gains(data, runs, clusters=clusters, seed=seed),
        "attention_by_layer": np.mean([_layers(run) for run in runs], axis=0).tolist(),
    }
    write_whole(folder.path / "evidence.json", json_text(found))
    return found


def fusion_gains(
    of_finalist: Seeds,
    refits: Mapping[Role, Seeds],
    baselines: Sequence[Baseline],
    clusters: Clusters,
) -> dict[str, dict[str, Any]]:
    """nDCG of the finalist minus each rival's: best single modality, best pair, weighted sum, LambdaMART, tuned V1."""
    out: dict[str, dict[str, Any]] = {}
    for title, size in (("best single modality", 1), ("best pair", 2)):
        runs = {k: r for k, r in refits.items() if k.kind == "refit" and len(k.modalities) == size and len(r) > 1}
        if runs:
            best = max(runs, key=lambda role: _mean(runs[role].values()))
            gain = difference(*paired(of_finalist, runs[best]), clusters=clusters)
            out[title] = {"rival": "+".join(best.modalities), "kind": "refit"} | plain(gain)
    for baseline in baselines:
        if baseline.kind != "alone":
            gain = difference(list(of_finalist.values()), baseline.ndcg, clusters=clusters)
            out[baseline.name] = {"rival": baseline.name, "kind": baseline.kind} | plain(gain)
    return out


def subdomain_gains(
    data: RankingDataset, of_finalist: Sequence[Arrays], *, clusters: Clusters, seed: int
) -> list[dict[str, Any]]:
    """Gain over V1 in each subdomain, with sign-flip p corrected by Holm over the subdomains."""
    rows = of_finalist[0]["rows"]
    gain = np.stack([run["ndcg"] - run["v1_ndcg"] for run in of_finalist])
    names = np.asarray(data.subdomain)[rows]
    generator = np.random.default_rng(seed)
    out: list[dict[str, Any]] = []
    for name in sorted({str(n) for n in names}):
        chosen = (names == name) & np.isfinite(gain).all(axis=0)
        values, groups = gain[:, chosen], clusters[chosen] if clusters is not None else None
        if values.shape[1] < 2 or len(values) < 2:
            continue
        p = sign_flip_p(values.mean(axis=0), generator=generator, clusters=groups)
        out.append({"subdomain": name, "queries": values.shape[1], "p": p} | plain(seed_interval(values, groups)))
    for entry, adjusted in zip(out, holm([entry["p"] for entry in out]) if out else [], strict=True):
        entry["p_holm"] = float(adjusted)
    return out


def plain(interval: Interval) -> dict[str, float]:
    """`mean`, `ci_low`, `ci_high`."""
    return {"mean": interval.mean, "ci_low": interval.low, "ci_high": interval.high}


def _mean(runs: Iterable[Arrays]) -> float:
    return float(np.mean([np.nanmean(run["ndcg"]) for run in runs]))


def _layers(run: Arrays) -> npt.NDArray[np.float64]:
    return np.average(run["shares"], axis=0, weights=run["documents"])
