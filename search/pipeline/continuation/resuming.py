"""Whether a run folder holds the run that is asked for: checked before it is gone on with, or shown as the answer."""

from __future__ import annotations

import dataclasses
from typing import Any

from fusion_models.data import DataError
from fusion_models.data.sources import declared_modalities
from fusion_models.modalities import SUSPECT
from search.options import RunOptions
from search.pipeline.confirmation.finalist import standing_finalist
from search.pipeline.continuation.same_inputs import described_model, require_answers_for, require_same_model
from search.run_store.facts import read_facts
from search.run_store.folder import RunFolder, RunFolderError, phase_of
from spaces import PHASE4, PHASES, Phase, phase_from_plain, phase_to_plain

RESUMABLE_CHANGES = (
    "data",
    "trials",
    "time_budget",
    "ablation",
    "max_concurrent",
    "address",
    "resume",
    "fresh",
    "settle",
    "extend",
    "track",
    "workers_per_trial",
    "cpus_per_worker",
    "stack",
    "epoch_limit",
    "results",
    "facts",
    "phase_file",
)
"""Options that may differ when a run is resumed: they change how much is done, not what.

Facts that are not given are the run's own (`own_facts`). What a phase file says is compared with the phase that the run
was started with, wherever the file lies; so is what the data hold (`same_inputs`).
"""


READ_BY_VERDICTS = ("objectives", "gates", "resume_gates", "metric", "thresholds")
"""Of a phase's definition."""


def plain_options(options: RunOptions) -> dict[str, Any]:
    """The options as run.json holds them."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(options).items()}


def own_facts(folder: RunFolder, options: RunOptions) -> str | None:
    """The file of facts of a run that is gone on with: the one given now, else the run's own.

    Raises RunFolderError where that is gone.
    """
    own: str | None = ((folder.read() or {}).get("options") or {}).get("facts")
    if options.facts is not None or own is None:
        return options.facts
    try:
        read_facts(own)
    except ValueError as error:
        said = f"{folder.path} was begun with facts that it needs again: give them as --facts ({error})"
        raise RunFolderError(said) from error
    return own


def with_own_facts(folder: RunFolder, options: RunOptions) -> RunOptions:
    """The options with the run's own facts (`own_facts`) where they resume it."""
    return dataclasses.replace(options, facts=own_facts(folder, options)) if options.resume else options


def require_same_options(folder: RunFolder, previous: dict[str, Any], options: RunOptions) -> None:
    """Raises RunFolderError, naming each option, where a run was started with others than it is resumed with."""
    asked, before = plain_options(options), previous["options"]
    changed = [key for key in asked if key not in RESUMABLE_CHANGES and before.get(key) != asked[key]]
    if changed:
        said = ", ".join(f"{key} was {before.get(key)!r} and is now {asked[key]!r}" for key in changed)
        raise RunFolderError(f"{folder.path} was started with other options ({said}): give the same, or --fresh")


def require_same_phase(folder: RunFolder, previous: dict[str, Any], phase: Phase) -> None:
    """Raises RunFolderError where a run was started with another base recipe, other ranges, objectives or gates.

    How many trials it searches may differ.
    """
    before = phase_of(previous)
    if before.base != phase.base:
        raise RunFolderError(f"{folder.path} was started with another base recipe (another version?): use --fresh")
    was, now = phase_to_plain(before), phase_to_plain(phase)
    changed = [key for key in now if key != "trials" and was[key] != now[key]]
    if changed:
        raise RunFolderError(
            f"{folder.path} was started with another phase ({', '.join(changed)} differ: another --phase-file, or "
            "another version?): give the same, or --fresh"
        )


def require_no_more_trials(folder: RunFolder, options: RunOptions, *, planned: int, verdict: int = 1) -> None:
    """Raises RunFolderError where more trials are asked for than `planned`, though the verdict's finalist is fixed.

    None of them could be chosen, and they would change what the finalist is compared with.
    """
    standing = standing_finalist(folder, verdict, chooses_anew=verdict > 1)
    if standing is not None and options.trials is not None and options.trials > planned:
        raise RunFolderError(
            f"{folder.path} has fixed its finalist, so none of --trials {options.trials} could be chosen (planned were "
            f"{planned}): leave --trials out to end the run, then add --extend --trials {options.trials}"
        )


def require_run_of(folder: RunFolder, phase: str) -> None:
    """Raises RunFolderError where the folder holds a run of another phase, a roadmap or an audit, finished or not."""
    described = folder.read() or {}
    found = described.get("phase", phase)
    if found != phase:
        what = f"{'a finished' if described.get('end') else 'an unfinished'} run of {found}"
        raise RunFolderError(
            f"{folder.path} holds {what}, not of {phase}: give another --name or --results, or --fresh to start over "
            "there (which deletes it)"
        )


def require_same_verdict(folder: RunFolder, options: RunOptions, given: Phase | None = None) -> None:
    """Raises RunFolderError where a finished run's verdict was taken by other thresholds than those of now.

    A phase that is a value (`given`), or stands in a phase file now or stood in one then, is compared in full. Of a
    phase that is named, what verdicts read.
    """
    described = folder.read() or {}
    definitions = described.get("definitions") or {options.phase: described.get("definition")}
    filed = (described.get("options") or {}).get("phase_file") or options.phase_file
    for name, plain in definitions.items():
        if plain is None:
            continue
        previous = {"phase": name, "definition": plain}
        if given is not None:
            require_same_phase(folder, previous, options.around(given))
        elif filed:
            require_same_phase(folder, previous, options.to_phase(name))
        elif name in PHASES:
            was, now = phase_to_plain(phase_of(previous)), phase_to_plain(options.to_phase(name))
            changed = [key for key in READ_BY_VERDICTS if was[key] != now[key]]
            if changed:
                raise RunFolderError(
                    f"{folder.path} holds a finished run of another {name} ({', '.join(changed)} differ: a Phase of "
                    "your own, or another version?): give another --name or --results, or --fresh to start over there"
                )


def require_same_question(folder: RunFolder, options: RunOptions, given: Phase | None = None) -> str:
    """A finished run of one phase, dataset, model or set of thresholds must not be read as that of another.

    `given`: the phase where it is a value. Returns what could not be compared, as a sentence; nothing where all was.
    Raises RunFolderError that names both.
    """
    described = folder.read() or {}
    said = described.get("options") or {}
    require_run_of(folder, options.phase)
    if said.get("model") != options.model:
        raise RunFolderError(
            f"{folder.path} holds a finished run of --model {said.get('model')}, not of {options.model}: give another "
            "--name or --results, or --fresh to start over there"
        )
    before = said.get("suspect") or SUSPECT
    now = options.suspect or (before if options.phase == PHASE4.name else SUSPECT)  # phase 4 has that of its phase 3
    if before != now:
        raise RunFolderError(
            f"{folder.path} holds a finished run whose suspect is {before}, not {now}: give another --name or "
            "--results, or --fresh to start over there"
        )
    if options.model is not None and described.get("model") is not None:
        require_same_model(folder, described, described_model(options.model))
    unknown = require_answers_for(folder, options.data)
    if not unknown or _declared(options.data) == _laid_out_for(described):
        require_same_verdict(folder, options, given)
    return unknown


def _declared(data: str) -> tuple[str, ...] | None:
    """The modalities that data declare; None where nobody can tell."""
    try:
        return declared_modalities(data)
    except DataError:
        return None


def _laid_out_for(described: dict[str, Any]) -> tuple[str, ...] | None:
    """The modalities of the data that a run's phases were laid out for."""
    plain = next(iter((described.get("definitions") or {"": described.get("definition")}).values()))
    return None if plain is None else phase_from_plain(plain).base.model.of_dataset
