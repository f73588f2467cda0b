"""The one module that opens the test split, after the finalist is fixed on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from fusion_models.contribution import Contribution, contribution
from fusion_models.data import RankingDataset
from fusion_models.evaluation import EVALUATION_QUERIES, evaluate
from fusion_models.metrics import BLANKS, chance_ndcg
from search.artifacts import load_ranker, read_queries, write_queries
from search.folder import RunFolder, now, write_whole

DECIDING_SPLIT = "test"
KEPT = f"{DECIDING_SPLIT}.npz"
LOOKS = "test_looks.json"
"""Beside the run folders: when which run looked at the test split of which data."""


class ClosedError(RuntimeError):
    """The test split was asked for before a finalist was fixed."""


def open_test_split(
    folder: RunFolder, data: RankingDataset, trainings: Sequence[str], *, full: Sequence[str] = ()
) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """Measure finished trainings on the test split, side by side in Ray: trial id -> its values per query.

    `full` names the trainings that are also measured under every kind of blank. What has been measured once is read
    back. Raises ClosedError unless `finalist.json` stands in the run folder. Ray must be running.
    """
    _require_finalist(folder)
    places = {trial_id: folder.checkpoints / trial_id for trial_id in trainings}
    missing = [t for t, place in places.items() if not (place / KEPT).exists()]
    slow_first = sorted(missing, key=lambda t: t not in full)
    ray.get([_measure.remote(places[t], data, t in full) for t in slow_first])
    return {t: read_queries(place / KEPT) for t, place in places.items()}


def open_contribution(folder: RunFolder, data: RankingDataset, trial_id: str) -> Contribution:
    """What each modality gives one finished training on the test split; raises ClosedError as `open_test_split`."""
    _require_finalist(folder)
    found: Contribution = ray.get(_contribution.remote(folder.checkpoints / trial_id, data))
    return found


def open_chance(folder: RunFolder, data: RankingDataset) -> float:
    """nDCG of constant scores on the test split; raises ClosedError as `open_test_split`."""
    _require_finalist(folder)
    batches = data.batches(DECIDING_SPLIT, EVALUATION_QUERIES)
    return float(torch.nanmean(torch.cat([chance_ndcg(batch.labels, batch.valid) for batch in batches])))


def _require_finalist(folder: RunFolder) -> None:
    if not (folder.path / "finalist.json").exists():
        raise ClosedError(f"{folder.path} has no finalist.json: the test split stays closed until a finalist is fixed")


@ray.remote(num_cpus=1)  # type: ignore[untyped-decorator]
def _contribution(place: Path, data: RankingDataset) -> Contribution:
    torch.set_num_threads(1)
    return contribution(load_ranker(place, data), data, DECIDING_SPLIT)


@ray.remote(num_cpus=1)  # type: ignore[untyped-decorator]
def _measure(place: Path, data: RankingDataset, full: bool) -> None:
    torch.set_num_threads(1)
    kinds = BLANKS if full else ("zero",)
    evaluation = evaluate(load_ranker(place, data), data, DECIDING_SPLIT, kinds=kinds, pictures=True)
    write_queries(evaluation, place / f".{KEPT}")
    (place / f".{KEPT}").replace(place / KEPT)


def count_look(folder: RunFolder, fingerprint: str) -> int:
    """Note that this run has looked at the test split of this data; returns how many runs have, this one included.

    The count is kept beside the run folders, so that starting afresh does not forget it.
    """
    path = folder.path.parent / LOOKS
    looks: dict[str, list[dict[str, str]]] = _read(path)
    mine = {"run": folder.path.name, "start": str((folder.read() or {}).get("start"))}
    known = looks.setdefault(fingerprint, [])
    if not any({key: look[key] for key in mine} == mine for look in known):
        known.append(mine | {"looked": now()})
        write_whole(path, json.dumps(looks, indent=1) + "\n")
    return len(known)


def _read(path: Path) -> dict[str, list[dict[str, str]]]:
    if not path.exists():
        return {}
    found: dict[str, list[dict[str, str]]] = json.loads(path.read_text())
    return found
