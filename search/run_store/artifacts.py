"""What a finished training leaves in the run folder: weights, recipe and what it said, document by document."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset
from fusion_models.data.clusters import query_clusters
from fusion_models.data.schema import DataDescription
from fusion_models.evaluation import Blanking, Evaluation, evaluate
from fusion_models.files import whole, whole_folder, write_whole
from fusion_models.latency import scoring_latency
from fusion_models.metrics import BLANKS, paired_bootstrap, sign_flip_p
from fusion_models.metrics.intervals.weights import counted, of_rows
from fusion_models.models import Ensemble, Ranker, TrainableRanker, build_ranker
from fusion_models.models.own import is_own, own_model
from fusion_models.process_group import ALONE, ProcessGroup
from fusion_models.quantities import Lists, Outputs
from fusion_models.training import TrainingState
from fusion_models.work.foreign import first_line
from search.run_store.folder import RunFolderError, read_json
from search.run_store.job import Job

WEIGHTS = "weights.safetensors"
RECIPE = "recipe.json"
OUTPUTS = "validation.npz"
PER_QUERY = ("shares", "value_shares", "ssim")
DATA = "data.json"
"""Of an artefact: widths and statistics of the data that it was trained on."""
MEMBERS = "weights-*.safetensors"
"""Of an ensemble: one file a member, numbered from 0, in the place of `WEIGHTS`."""

LEVELS = 3
"""Folders above weights of which one may be their run: RUN/checkpoints/TRIAL, RUN/verdicts/2/artefact."""
REMEDY = "put back a whole copy of the ranker's folder"


def measure(state: TrainingState, data: RankingDataset, job: Job, *, process_group: ProcessGroup = ALONE) -> Evaluation:
    """The best epoch's weights on the validation split in full; every process of `process_group` gets the whole."""
    state.model.load_state_dict(state.best_weights)
    blanking = Blanking(kinds=BLANKS) if job.detail == "full" else Blanking()
    return evaluate(state.model, data, "validation", blanking, process_group=process_group)


def write_finished(
    evaluation: Evaluation, state: TrainingState, data: RankingDataset, job: Job, folder: Path
) -> dict[str, float]:
    """Write a measured ranker, its recipe and what it said; returns the numbers, intervals included."""
    numbers = evaluation.numbers(ranks=True) | {"best_epoch": float(state.best_epoch)}
    numbers["parameters"] = float(sum(p.numel() for p in state.model.parameters()))
    numbers["queries"] = float(np.isfinite(evaluation.ndcg).sum())
    gain = evaluation.ndcg - evaluation.v1_ndcg
    uneven = evaluation.outputs.lists.uneven
    known, generator = counted(gain, uneven), np.random.default_rng(job.seed)
    clusters = query_clusters(data, "validation")
    gain, clusters = gain[known], clusters[known] if clusters is not None else None
    counts = of_rows(uneven, known)
    interval = paired_bootstrap(gain, generator=generator, clusters=clusters, weights=counts)
    numbers |= {"ndcg_gain_ci_low": interval.low, "ndcg_gain_ci_high": interval.high}
    numbers["ndcg_gain_p"] = sign_flip_p(gain, generator=generator, clusters=clusters, weights=counts)
    if job.latency:
        numbers["latency_p95_ms"] = scoring_latency(state.model, data).p95
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.detach().clone().contiguous().cpu() for k, v in state.model.state_dict().items()}
    with whole(folder / WEIGHTS) as staging:  # what stands there may be another run's file under a second name
        save_file(weights, staging)
    write_whole(folder / RECIPE, json.dumps({"recipe": job.recipe, "seed": job.seed, "numbers": numbers}, indent=1))
    write_outputs(evaluation.outputs, folder / OUTPUTS)
    return numbers


def write_outputs(outputs: Outputs, path: Path) -> None:
    """Keep what a ranker said, from which every number and interval is computed later; the lists stay with the data.

    Scores are kept document by document, without padding, as float32.
    """
    valid = outputs.lists.valid
    columns: dict[str, Any] = {
        "rows": outputs.lists.rows,
        "scores": outputs.scores[valid].astype(np.float32),
        "modalities": np.array(outputs.modalities),
        "share_kind": np.array(outputs.share_kind),
    }
    columns |= {f"blanked.{m}.{kind}": d[:, valid].astype(np.float32) for (m, kind), d in outputs.blanked.items()}
    columns |= {name: v for name in PER_QUERY if (v := getattr(outputs, name)) is not None}
    with whole(path) as staging, staging.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **columns)


def read_outputs(path: Path, lists: Lists) -> Outputs:
    """What `write_outputs` kept; `lists` are those of the split (`evaluation.split_lists`).

    Raises ValueError where it was measured on other queries.
    """
    with np.load(path, allow_pickle=False) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    if not np.array_equal(kept["rows"], lists.rows):
        raise ValueError(f"{path} was measured on other queries than the split holds now")

    def padded(flat: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        out = np.zeros((*flat.shape[:-1], *lists.valid.shape))
        out[..., lists.valid] = flat
        return out

    blanked = {tuple(n.split(".")[1:]): padded(v) for n, v in kept.items() if n.startswith("blanked.")}
    return Outputs(
        lists=lists,
        scores=padded(kept["scores"]),
        modalities=tuple(kept["modalities"].tolist()),
        blanked={(modality, kind): draws for (modality, kind), draws in blanked.items()},
        share_kind=str(kept["share_kind"]),
        **{name: kept.get(name) for name in PER_QUERY},
    )


def weights_files(folder: Path) -> list[Path]:
    """The weights of the ranker in `folder`: one training's, or an ensemble's in the order of its members; or none."""
    members = sorted(folder.glob(MEMBERS), key=lambda path: int(path.stem.rpartition("-")[2]))
    return members or [path for path in [folder / WEIGHTS] if path.exists()]


def weights_sha256(folder: Path) -> str:
    """Of the weights of the ranker in `folder`, in the order of its members."""
    found = hashlib.sha256()
    for path in weights_files(folder):
        found.update(path.read_bytes())
    return found.hexdigest()


def ranker_files(folder: Path) -> list[str]:
    """Names of the files that `load_ranker` reads."""
    return [RECIPE, *(path.name for path in weights_files(folder))]


def write_ensemble(folder: Path, trainings: Sequence[Path], data: DataDescription | None = None) -> None:
    """Put finished trainings of one recipe together in `folder`: a ranker that `load_ranker` opens as one.

    `data`: what they were trained on, written beside them, so that they score without it.

    Raises ValueError where there is none, or their recipes differ.
    """
    said = [read_json(place / RECIPE) for place in trainings]
    if not said or any(Recipe.from_flat(s["recipe"]) != Recipe.from_flat(said[0]["recipe"]) for s in said):
        raise ValueError(f"an ensemble is made of trainings of one recipe, got {[place.name for place in trainings]}")
    with whole_folder(folder) as staging:
        for index, place in enumerate(trainings):
            shutil.copyfile(place / WEIGHTS, staging / MEMBERS.replace("*", str(index)))
        members = {"trainings": [place.name for place in trainings], "seeds": [s["seed"] for s in said]}
        (staging / RECIPE).write_text(json.dumps({"recipe": said[0]["recipe"]} | members, indent=1))
        if data is not None:
            (staging / DATA).write_text(json.dumps(data.to_json()))


def read_data(folder: Path) -> DataDescription | None:
    """What the ranker in `folder` was trained on; None where it does not say.

    Raises ValueError, naming the file, where it is cut.
    """
    path = folder / DATA
    if not path.exists():
        return None
    try:
        return DataDescription.from_json(read_json(path, remedy=REMEDY))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not describe data ({first_line(error)}): {REMEDY}") from error


def read_recipe(folder: Path) -> Recipe:
    """The recipe of the ranker in `folder`. Raises ValueError, naming the file, where it is gone, cut, or unknown."""
    said = read_json(folder / RECIPE, remedy=REMEDY)
    if not isinstance(said.get("recipe"), dict):
        raise ValueError(f"{folder / RECIPE} names no recipe: {REMEDY}")
    try:
        return Recipe.from_flat(said["recipe"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder / RECIPE} is no recipe of this version ({error})") from error


def load_ranker(folder: Path, data: RankingDataset | DataDescription, device: torch.device | str = "cpu") -> Ranker:
    """The ranker of a finished trial, or of an ensemble's folder, ready to score `data`; nothing in it is executed.

    An ensemble of one is its member, whose scores no gate has read standardised.

    Raises ValueError that names the file which is gone, cut, or does not fit: it is of another dataset, or of another
    version of this program.
    """
    recipe = read_recipe(folder)
    files = weights_files(folder) or [folder / WEIGHTS]  # whose absence then says which file is missing
    members = [_loaded(path, recipe, data) for path in files]
    ranker = members[0] if len(members) == 1 else Ensemble(members)
    return ranker.to(device).eval()


def run_of(place: Path) -> Path | None:
    """The run that a ranker's folder lies in; None where it lies in none."""
    above = (*place.absolute().parents[:LEVELS], *place.resolve().parents[:LEVELS])  # either may be a link
    return next((p for p in above if (p / "run.json").exists()), None)


def require_same_source(place: Path) -> None:
    """Raises RunFolderError where the weights in `place` are of another source of one's own module than there is now.

    The run that they lie in says what they were trained with. Weights that lie in no run pass, and our own variants.
    """
    variant, run = read_recipe(place).model.variant, run_of(place)
    if run is None or not is_own(variant):
        return
    before = (read_json(run / "run.json").get("model") or {}).get("sha256")
    model = own_model(variant)
    if before is not None and before != model.sha256():
        raise RunFolderError(
            f"{run} was trained with another source of {variant} ({model.root} has changed since): its weights would "
            "score as another model. Bring that source back, or train again"
        )


def _loaded(path: Path, recipe: Recipe, data: RankingDataset | DataDescription) -> TrainableRanker:
    model = build_ranker(recipe, data.schema, data.statistics)
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read ({first_line(error)}): {REMEDY}") from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        what = " ".join(str(error).split()[:40])
        raise ValueError(
            f"{path} does not fit {data.source} and this version of fusion-search: {what} ...; open it "
            "with the dataset and the commit that trained it (run.json names both), or train it again"
        ) from error
    return model
