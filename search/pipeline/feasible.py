"""Whether what is asked can be done at all: found out before anything is deleted or written."""

from __future__ import annotations

from collections.abc import Sequence

from fusion_models.data import RankingDataset, open_dataset
from fusion_models.data.readiness import require_rankable
from fusion_models.models.variants import fusion_class
from search.options import RunOptions
from search.pipeline.confirmation.arms import fewest_trainings
from search.run_store.folder import RunFolder
from search.run_store.looks import require_looks
from search.run_store.mirror import local_results
from search.run_store.start_weights import require_start_weights
from spaces import Phase, require_known_points

MODALITIES = "model.modalities"


def open_feasible(options: RunOptions, phases: Sequence[Phase]) -> RankingDataset:
    """The data of `options`, measured by the first phase's metric, once every phase is known to fit them.

    Raises ValueError where a phase asks of the data what they lack, the weights to start from do not fit, or earlier
    looks at test splits cannot be read. Whether Ray comes up is found out by whoever starts it, before anything is
    deleted or written too.
    """
    for phase in phases:
        fusion_class(phase.base.model.variant)
        require_known_points(phase, of_file=False)
        _require_suspect_and_another(phase)
        _require_room_for_the_first(options, phase)
    data = open_dataset(options.data)
    for phase in phases:
        measured = data.measured_by(phase.metric)
        _require_its_modalities(phase, measured)
        require_rankable(measured)
        if options.weights is not None and not options.resume:
            require_start_weights(options.weights, phase.base, measured)
    require_looks(RunFolder(local_results(options.results) / (options.name or options.phase)))
    return data.measured_by(phases[0].metric)


def _require_suspect_and_another(phase: Phase) -> None:
    """Of the base recipe and of every recipe that is searched: a finalist without the suspect were its own rival."""
    searched = phase.ranges.get(MODALITIES)
    for changes in ({}, *({MODALITIES: value} for value in (searched.samples() if searched is not None else ()))):
        kept = phase.base.updated(changes).model.modalities
        if phase.suspect not in kept or len(kept) < 2:
            said = f"the range of {MODALITIES} has" if changes else f"{MODALITIES} is"
            raise ValueError(
                f"{said} {'+'.join(kept)}: a phase asks what the suspect is worth beside others, so it needs "
                f"{phase.suspect} and at least one more"
            )


def _require_room_for_the_first(options: RunOptions, phase: Phase) -> None:
    members = phase.base.train.members
    first = max(phase.confirm_seeds, fewest_trainings(members))
    if options.resume:  # a run of before may have been begun so
        return
    if options.confirm_seeds is None and options.max_seeds is not None and options.max_seeds < first:
        raise ValueError(
            f"--max-seeds {options.max_seeds} is fewer than the {first} trainings that every recipe of {phase.name} "
            f"gets (train.members is {members}, confirm_seeds {phase.confirm_seeds}): give at least {first}"
        )


def _require_its_modalities(phase: Phase, data: RankingDataset) -> None:
    asked, has = phase.base.model.of_dataset, data.schema.modalities
    if asked != has:
        raise ValueError(f"{phase.name} is for {', '.join(asked)}, and {data.source} has {', '.join(has)}")
