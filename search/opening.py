"""The one module that opens a deciding split, after the finalist is fixed on disk.

The deciding split is the test split; in a roadmap's first phases it is the half of validation that no search reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusion_models.contribution import Contribution, contribution
from fusion_models.data import RankingDataset
from fusion_models.data.clusters import Clusters, query_clusters
from fusion_models.data.splits import DECIDING
from fusion_models.evaluation import EVALUATION_QUERIES, Scored, evaluate, score
from fusion_models.integrity import Check, isolation_checks, separability_checks
from fusion_models.metrics import BLANKS, chance_ndcg
from search.artifacts import RECIPE, WEIGHTS, load_ranker, read_queries, write_queries
from search.depot import DataTicket, Files, pack, ticket_for, unpacked, write_bytes_whole
from search.folder import RunFolder, now, write_whole
from search.tuning import Call, call_in_ray

DECIDING_SPLIT = "test"
DECIDING_HALF = DECIDING
"""Of a halved dataset's validation split (see `RankingDataset.halved`)."""
SPLIT_NAMES = {DECIDING_SPLIT: "test split", DECIDING_HALF: "deciding half of validation"}
LOOKS = "test_looks.json"
"""Beside the run folders: when which run looked at the test split of which data."""


class ClosedError(RuntimeError):
    """A deciding split was asked for before a finalist was fixed."""


def open_test_split(
    folder: RunFolder,
    data: RankingDataset,
    trainings: Sequence[str],
    *,
    split: str = DECIDING_SPLIT,
    full: Sequence[str] = (),
    call: Call = call_in_ray,
) -> Callable[[], dict[str, dict[str, np.ndarray[Any, Any]]]]:
    """Measure finished trainings on the deciding split, side by side from now on.

    Calling what is returned waits for them: trial id -> its values per query. `call` says where (`Run.call`). `full`
    names the trainings that are also measured under every kind of blank. What has been measured once is read back.
    Raises ClosedError unless `finalist.json` stands in the run folder.
    """
    require_finalist(folder)
    places = {trial_id: folder.checkpoints / trial_id for trial_id in trainings}
    kept = f"{split}.npz"
    missing = [t for t, place in places.items() if not (place / kept).exists()]
    slow_first = sorted(missing, key=lambda t: t not in full)
    ticket = ticket_for(data)
    measured = {t: call(_measure, _ranker(places[t]), ticket, split, t in full) for t in slow_first}

    def collect() -> dict[str, dict[str, np.ndarray[Any, Any]]]:
        for trial_id, values in measured.items():
            write_bytes_whole(places[trial_id] / kept, values())
        return {t: read_queries(place / kept) for t, place in places.items()}

    return collect


def open_contribution(
    folder: RunFolder, data: RankingDataset, trial_id: str, *, split: str = DECIDING_SPLIT, call: Call = call_in_ray
) -> Callable[[], Contribution]:
    """What each modality gives one finished training on the deciding split; raises ClosedError as `open_test_split`.

    It is measured from now on (by `call`); calling what is returned waits for it.
    """
    require_finalist(folder)
    return call(_contribution, _ranker(folder.checkpoints / trial_id), ticket_for(data), split)


def open_scores(folder: RunFolder, data: RankingDataset, trial_id: str, *, split: str = DECIDING_SPLIT) -> Scored:
    """Every list of the deciding split as one finished training scores it; raises ClosedError as `open_test_split`."""
    require_finalist(folder)
    return score(load_ranker(folder.checkpoints / trial_id, data), data, split)


def open_clusters(folder: RunFolder, data: RankingDataset, *, split: str = DECIDING_SPLIT) -> Clusters | None:
    """The deciding split's `query_clusters`; raises ClosedError as `open_test_split`."""
    require_finalist(folder)
    return query_clusters(data, split)


def open_chance(folder: RunFolder, data: RankingDataset, *, split: str = DECIDING_SPLIT) -> float:
    """nDCG of constant scores on the deciding split; raises ClosedError as `open_test_split`."""
    require_finalist(folder)
    batches = data.batches(split, EVALUATION_QUERIES)
    return float(torch.nanmean(torch.cat([chance_ndcg(batch.labels, batch.valid) for batch in batches])))


def require_finalist(folder: RunFolder) -> None:
    """Raise ClosedError unless the run's finalist stands on disk."""
    if not (folder.path / "finalist.json").exists():
        raise ClosedError(
            f"{folder.path} has no finalist.json: the deciding split stays closed until a finalist is fixed"
        )


def _ranker(place: Path) -> Files:
    """A finished training's ranker as it travels: the machine that measures need not see the run folder."""
    return pack(place, WEIGHTS, RECIPE)


def _contribution(ranker: Files, ticket: DataTicket, split: str) -> Contribution:
    data = ticket.open()
    with unpacked(ranker) as place:
        return contribution(load_ranker(place, data), data, split)


def _measure(ranker: Files, ticket: DataTicket, split: str, full: bool) -> bytes:
    """The file of values per query that the driver keeps."""
    kinds = BLANKS if full else ("zero",)
    data = ticket.open()
    with unpacked(ranker) as place:
        evaluation = evaluate(load_ranker(place, data), data, split, kinds=kinds, pictures=True)
        write_queries(evaluation, place / "values.npz")
        return (place / "values.npz").read_bytes()


def open_inputs(folder: RunFolder, data: RankingDataset, *, seed: int) -> list[Check]:
    """How far the test split's queries, items and features are those of training; its labels stay unread.

    So this is no look at the test split that is counted. Raises ClosedError as `open_test_split`.
    """
    require_finalist(folder)
    generator = np.random.default_rng(seed)
    return [*isolation_checks(data, DECIDING_SPLIT), *separability_checks(data, DECIDING_SPLIT, generator)]


def opened_before(folder: RunFolder, fingerprint: str) -> list[dict[str, str]]:
    """Every look at the test split of this data that was counted beside `folder`: `run`, `start`, `looked`."""
    return _read(_home(folder) / LOOKS).get(fingerprint, [])


def look_of(folder: RunFolder) -> dict[str, str]:
    """How a look of this run is told from those of others."""
    name = folder.path.relative_to(_home(folder)).as_posix()
    return {"run": name, "start": str((folder.read() or {}).get("start"))}


def _home(folder: RunFolder) -> Path:
    """Where looks are counted: beside the run folders; for a phase of a roadmap, beside the roadmap's."""
    return folder.path.parent.parent if (folder.read() or {}).get("roadmap") else folder.path.parent


def count_look(folder: RunFolder, fingerprint: str, *, split: str = DECIDING_SPLIT) -> int:
    """Note that this run has looked at the deciding split of this data; returns how many runs have, this one included.

    The count is kept beside the run folders (for a phase of a roadmap: beside the roadmap's), so that starting afresh
    does not forget it.
    """
    path = _home(folder) / LOOKS
    looks: dict[str, list[dict[str, str]]] = _read(path)
    mine = look_of(folder)
    known = looks.setdefault(fingerprint if split == DECIDING_SPLIT else f"{fingerprint} ({split})", [])
    if not any({key: look[key] for key in mine} == mine for look in known):
        known.append(mine | {"looked": now()})
        write_whole(path, json.dumps(looks, indent=1) + "\n")
    return len(known)


def _read(path: Path) -> dict[str, list[dict[str, str]]]:
    if not path.exists():
        return {}
    found: dict[str, list[dict[str, str]]] = json.loads(path.read_text())
    return found
