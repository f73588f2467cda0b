"""The one module that opens a deciding split, after the finalist is fixed on disk.

The deciding split is the test split; in a roadmap's first phases it is the half of validation that no search reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fusion_models.contribution import Contribution, contribution
from fusion_models.data import RankingDataset
from fusion_models.data.crossed_clusters import crossed_clusters
from fusion_models.evaluation import Blanking, evaluate, split_lists
from fusion_models.files import write_whole
from fusion_models.integrity import Check, copies_check, isolation_checks, logged_check, separability_checks
from fusion_models.metrics import BLANKS
from fusion_models.metrics.intervals.query_intervals import Ties
from fusion_models.quantities import Outputs
from fusion_models.work import told
from search.execution.file_transfer import DataTicket, Files, pack, ticket_for, unpacked
from search.execution.tuning import Call, call_in_ray
from search.run_store.artifacts import load_ranker, ranker_files, read_outputs, write_outputs
from search.run_store.folder import RunFolder
from search.run_store.looks import DECIDING_SPLIT, SPLIT_NAMES


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
) -> Callable[[], dict[str, Outputs]]:
    """Measure finished trainings on the deciding split, side by side from now on.

    Calling what is returned waits for them: trial id -> what it said. `call` says where (`Trainer.call`). `full` names
    the trainings that are also measured under every kind of blank. What has been measured once is read back. Raises
    ClosedError unless `finalist.json` stands in the run folder.
    """
    require_finalist(folder)
    places = {trial_id: folder.checkpoints / trial_id for trial_id in trainings}
    kept = f"{split}.npz"
    missing = [t for t, place in places.items() if not (place / kept).exists()]
    slow_first = sorted(missing, key=lambda t: t not in full)
    ticket = ticket_for(data)
    measured = {t: call(_measure, _ranker(places[t]), ticket, split, t in full) for t in slow_first}

    def collect() -> dict[str, Outputs]:
        for trial_id, values in told(f"measuring on the {SPLIT_NAMES.get(split, split)}", list(measured.items())):
            write_whole(places[trial_id] / kept, values())
        lists = split_lists(data, split)
        return {t: read_outputs(place / kept, lists) for t, place in places.items()}

    return collect


def open_contribution(
    folder: RunFolder,
    data: RankingDataset,
    trial_id: str,
    *,
    split: str = DECIDING_SPLIT,
    call: Call = call_in_ray,
) -> Callable[[], Contribution]:
    """What each modality gives one ranker of the checkpoints on the deciding split; raises ClosedError as above.

    It is measured from now on (by `call`); calling what is returned waits for it.
    """
    require_finalist(folder)
    return call(_contribution, _ranker(folder.checkpoints / trial_id), ticket_for(data), split)


def open_clusters(folder: RunFolder, data: RankingDataset, *, split: str = DECIDING_SPLIT) -> Ties | None:
    """Which queries of the deciding split stand together, by words and by relevant items (`crossed_clusters`).

    Raises ClosedError as `open_test_split`.
    """
    require_finalist(folder)
    return crossed_clusters(data, split)


def require_finalist(folder: RunFolder) -> None:
    """Raise ClosedError unless the run's finalist stands on disk."""
    if not (folder.path / "finalist.json").exists():
        raise ClosedError(
            f"{folder.path} has no finalist.json: the deciding split stays closed until a finalist is fixed"
        )


def _ranker(place: Path) -> Files:
    """A finished training's ranker as it travels: the machine that measures need not see the run folder."""
    return pack(place, *ranker_files(place))


def _contribution(ranker: Files, ticket: DataTicket, split: str) -> Contribution:
    data = ticket.open()
    with unpacked(ranker) as place:
        return contribution(load_ranker(place, data), data, split)


def _measure(ranker: Files, ticket: DataTicket, split: str, full: bool) -> bytes:
    """The file that the driver keeps."""
    blanking = Blanking(kinds=BLANKS) if full else Blanking()
    data = ticket.open()
    with unpacked(ranker) as place:
        evaluation = evaluate(load_ranker(place, data), data, split, blanking)
        write_outputs(evaluation.outputs, place / "outputs.npz")
        return (place / "outputs.npz").read_bytes()


def open_inputs(folder: RunFolder, data: RankingDataset, *, seed: int) -> list[Check]:
    """How far the test split's queries, items and features are those of training; its labels stay unread.

    So this is no look at the test split that is counted. Raises ClosedError as `open_test_split`.
    """
    require_finalist(folder)
    generator = np.random.default_rng(seed)
    return [
        *isolation_checks(data, DECIDING_SPLIT),
        copies_check(data, DECIDING_SPLIT),
        *separability_checks(data, DECIDING_SPLIT, generator),
    ]


def open_labels(folder: RunFolder, data: RankingDataset, *, seed: int) -> Check:
    """Whether the test labels were logged under V1; no ranker is measured. Raises ClosedError as `open_test_split`."""
    require_finalist(folder)
    return logged_check(data, DECIDING_SPLIT, np.random.default_rng(seed))
