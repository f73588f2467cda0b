"""The run folder of an audit, in the files and columns of every run: confirmed, baselines, evidence, integrity."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from fusion_models.data import RankingDataset
from fusion_models.data.clusters import query_clusters
from fusion_models.files import write_whole
from fusion_models.integrity import Check
from fusion_models.metrics import summarise_latency, two_sided_p
from fusion_models.metrics.intervals.weights import weighted_mean
from search.analysis.judged import Evidence, write_judged
from search.analysis.measure import ConfirmedRow, confirmed_table, quantities
from search.audit.given import V2, Given, anchored_interaction, masked_shapley, masked_values
from search.audit.judge import Case, chosen_on_validation
from search.pipeline.baselines import reference_table
from search.pipeline.confirmation.examples import write_examples
from search.pipeline.confirmation.explained import arm_mean, fusion_gains, plain, refit_shapley, subdomain_gains
from search.run_store.csv_tables import write_csv
from search.run_store.folder import RunFolder, json_text
from search.run_store.looks import DECIDING_SPLIT
from spaces import Phase


def write_tables(folder: RunFolder, data: RankingDataset, case: Case, phase: Phase, evidence: Evidence) -> None:
    """Every table but the decision."""
    write_judged(evidence, folder.path)
    write_whole(folder.path / "evidence.json", json_text(evidence_of(data, case, phase, evidence)))
    write_csv(confirmed(data, case, phase, evidence), folder, "confirmed.csv")
    write_csv(_baselines(data, case), folder, "baselines.csv")
    write_csv(
        pd.DataFrame([vars(check) for check in case.checks], columns=list(Check.__annotations__)),
        folder,
        "integrity.csv",
    )
    write_examples(folder, data, case.test.artefact(case.members))
    if case.test.latency is not None:
        write_csv(latency_table(case, evidence), folder, "latency.csv")


def evidence_of(data: RankingDataset, case: Case, phase: Phase, evidence: Evidence) -> dict[str, Any]:
    """evidence.json, in the shape of a run's; what was not given is empty."""
    whole, given = case.on(phase), case.test
    artefact = whole.artefact
    shares, interaction = artefact.shares, _interaction(given, case.members)
    nothing = given.nothing
    weights = artefact.lists.uneven
    values = {"+".join(key.modalities): arm_mean(arm) for key, arm in whole.arms.items()}
    blind = evidence.strongest_blind
    chosen_on = "validation" if chosen_on_validation(case, phase) else DECIDING_SPLIT
    return {
        "split": DECIDING_SPLIT,
        "members": case.members,
        "released": list(given.released),
        "trainings": {key.slug: len(runs) for key, runs in given.trained.items()},
        "quantities": {name: plain(interval) for name, interval in evidence.quantities.items()},
        "p": {"ndcg_gain": two_sided_p(evidence.quantities["ndcg_gain"])},
        "refit_gain": {name: plain(interval) for name, interval in evidence.refit_gain.items()},
        "refit_values": values | ({} if nothing is None else {"": weighted_mean(nothing, weights)}),
        "refit_shapley": refit_shapley(whole, nothing, case.look.level) if nothing is not None else None,
        "leads": {
            role: {"rival": lead.rival} | plain(lead.interval)
            for role, lead in evidence.rivals.items()
            if lead and role != "base"
        },
        "strongest_blind": {"rival": blind.rival, "chosen_on": chosen_on} | plain(blind.interval) if blind else None,
        "probes": [{"name": p.name, "counts": p.counts} | plain(p.gain) for p in evidence.archive.probes],
        "no_probes": None
        if evidence.archive.probes
        else f"No probe was trained: no archive rule holds, and no refits say that {phase.suspect} may hold nothing, "
        "or every probe failed.",
        "masked_values": {_joined(given, kept): v for kept, v in masked_values(given, case.members).items()},
        "masked_shapley": masked_shapley(given, case.members),
        "interaction_gain": None if interaction is None else weighted_mean(interaction, weights),
        "cka": {},
        "effective_rank": {},
        "ssim": None,
        "fusion_gain": fusion_gains(whole, case.look.level),
        "subdomains": subdomain_gains(data, artefact, clusters=whole.clusters, level=case.look.level),
        "attention_by_layer": None
        if shares is None
        else np.average(shares, axis=0, weights=artefact.lists.documents * artefact.lists.weights).tolist(),
        "modalities": list(given.modalities),
    }


def _interaction(given: Given, members: int) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    return given.interaction if given.interaction is not None else anchored_interaction(given, members)


def _joined(given: Given, kept: frozenset[str]) -> str:
    return "+".join(m for m in given.modalities if m in kept)


def confirmed(data: RankingDataset, case: Case, phase: Phase, evidence: Evidence) -> pd.DataFrame:
    """V2 on the test split, and on validation where it was scored."""
    found = {DECIDING_SPLIT: evidence.quantities}
    if case.validation is not None:
        artefact = case.validation.artefact(case.members)
        found["validation"] = quantities(artefact, clusters=query_clusters(data, "validation"))
    rows = [
        ConfirmedRow(
            trial_id=V2,
            name=V2,
            finalist=split == DECIDING_SPLIT,
            split=split,
            seeds=case.members,
            quantities=intervals,
            trainings="given",
        )
        for split, intervals in found.items()
    ]
    return confirmed_table(phase, rows)


def _baselines(data: RankingDataset, case: Case) -> pd.DataFrame:
    parts = [
        reference_table(
            case.references[split],
            clusters=case.clusters if split == DECIDING_SPLIT else query_clusters(data, split),
            split=split,
        )
        for split in ("validation", DECIDING_SPLIT)
    ]
    return pd.concat(parts, ignore_index=True)


def latency_table(case: Case, evidence: Evidence) -> pd.DataFrame:
    """latency.csv: V2 on the lists as they were judged."""
    assert case.test.latency is not None
    found, p95 = summarise_latency(case.test.latency), evidence.quantities["latency_p95_ms"]
    row: dict[str, Any] = {"ranker": V2, "runtime": case.test.runtime, "parameters": nan, "status": "measured"}
    row |= {"note": "", "ndcg_cost": 0.0, "largest_difference": 0.0, "candidates": "as judged", "batch": 1}
    row |= {"requests": found.requests, "p50_ms": found.p50, "p95_ms": found.p95, "p95_ms_ci_low": p95.low}
    row |= {"p95_ms_ci_high": p95.high, "p99_ms": found.p99, "worst_ms": found.worst}
    return pd.DataFrame([row])


def verdicts(decisions: Sequence[tuple[str, Any]]) -> dict[str, dict[str, Any]]:
    """Phase -> verdict and why, for decision.json."""
    return {name: {"verdict": d.verdict, "fragile": d.fragile, "reasons": list(d.reasons)} for name, d in decisions}
