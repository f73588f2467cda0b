"""Whether data, and a module of one's own, are what a run was made with: told by their content.

Data may move, and other data may lie where they did.

Where they lie is noted in run.json; a run that is gone on with notes where they lie now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusion_models.config import Flat
from fusion_models.data import DataError, RankingDataset, fingerprint_of, open_dataset
from fusion_models.data.sources import HALVED
from fusion_models.models.own import is_own, own_model
from search.options import RunOptions
from search.run_store.folder import RunFolder, RunFolderError

_ELSEWHERE = "give another --name or --results, or --fresh to start over there"


def require_answers_for(folder: RunFolder, data: str) -> str:
    """What a finished run says of the `data` that are asked for: nothing where they are its own, wherever they lay.

    Where they cannot be opened, the sentence that says so. Raises RunFolderError where they are other data.
    """
    described = folder.read() or {}
    was, before = (described.get("options") or {}).get("data"), described.get("fingerprint")
    other = f"{folder.path} holds a finished run on --data {was}, not on {data}"
    if before is None or _is_halved(was) != _is_halved(data):
        if was != data:
            raise RunFolderError(f"{other}: {_ELSEWHERE}")
        return ""
    try:
        now = fingerprint_of(data)
    except DataError as error:
        if was != data:
            raise RunFolderError(f"{other}, which cannot be opened ({error}): {_ELSEWHERE}") from error
        return f" Whether --data {data} is as it was cannot be told, since it cannot be opened ({error})"
    if now == before:
        return ""
    if was != data:
        raise RunFolderError(f"{other}: {_ELSEWHERE}")
    raise RunFolderError(
        f"{folder.path} holds a finished run on --data {data} as it was, and other data lie there now: bring those of "
        f"then back, {_ELSEWHERE}"
    )


def require_same_data(folder: RunFolder, previous: Mapping[str, Any], asked: str, fingerprint: str) -> None:
    """Raises RunFolderError where a run was started on other data than `asked` holds now, or on the other halves."""
    was = (previous.get("options") or {}).get("data", previous.get("data"))
    if previous["fingerprint"] == fingerprint and _is_halved(was) == _is_halved(asked):
        return
    if was == asked:
        raise RunFolderError(
            f"{folder.path} was started on other data than {asked} holds now: bring those of then back, or use --fresh"
        )
    raise RunFolderError(
        f"{folder.path} was started on other data (--data {was}) than {asked}: give --data {was}, or where the same "
        "data lie now, or use --fresh"
    )


def require_of_roadmap(roadmap: RunFolder, data: RankingDataset, model: Flat | None) -> None:
    """Raises RunFolderError where a phase would begin, or go on, on other data or another module than its roadmap did.

    Its phases take over each other's trainings and verdicts, so all of them are of one.
    """
    began = roadmap.read() or {}
    if began.get("fingerprint") not in (None, data.fingerprint):
        place = data.source.removesuffix(HALVED)
        raise RunFolderError(
            f"{roadmap.path} was started on other data than {place} holds now: bring those of then back and give "
            "--resume, or use --fresh"
        )
    if "model" in began:
        require_same_model(roadmap, began, model)


def require_same_model(folder: RunFolder, previous: Mapping[str, Any], model: Flat | None) -> None:
    """Raises RunFolderError where the source of a module of one's own has changed since the run was started.

    Its trainings of before would stand beside trainings of another module under one name.
    """
    before = previous.get("model") or {}
    if before.get("sha256") != (model or {}).get("sha256"):
        raise RunFolderError(
            f"{folder.path} was started with another source of {before.get('reference', 'the model')} "
            f"({(model or {}).get('source', 'gone')} has changed since): bring that source back, or give --fresh"
        )


def described_model(variant: str) -> Flat | None:
    """What run.json holds of a module of one's own, its source's hash too; None of this project's variants."""
    return own_model(variant).described() if is_own(variant) else None


def given_data(options: RunOptions) -> str | None:
    """The data that are named beside a run that is there; None where it is left at its default, for the run's own."""
    return options.data if options.data != RunOptions.data else None


def open_again(folder: RunFolder, given: str | None = None) -> RankingDataset:
    """The data of a run, from where they lay or from where `given` says that they lie now, which run.json then notes.

    Raises ValueError where they cannot be opened, or are other data.
    """
    described = folder.read() or {}
    was, typed = str(described["data"]), (described.get("options") or {}).get("data")
    moved = given is not None and given not in (typed, was)
    halved = HALVED if _is_halved(was) else ""
    place = f"{str(given).removesuffix(HALVED)}{halved}" if moved else was
    try:
        now = fingerprint_of(place)
    except DataError as error:
        raise ValueError(
            f"the data of {folder.path} cannot be opened ({error}): give the place where they lie now as --data"
        ) from error
    if now != described["fingerprint"]:
        raise ValueError(f"{place} holds other data than when {folder.path} was run")
    data = open_dataset(place)
    if moved:
        note_data(folder, place, data.source)
    return data


def note_data(folder: RunFolder, asked: str, source: str) -> None:
    """Write into run.json where the data of a run lie now: as asked for, and as any process finds them."""
    described = folder.read() or {}
    folder.write(described | {"options": described["options"] | {"data": asked}, "data": source})


def _is_halved(data: str | None) -> bool:
    return str(data).endswith(HALVED)
