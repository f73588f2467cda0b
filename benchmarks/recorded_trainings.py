"""Trainings of each deciding arm in planted worlds, their scores on held-out queries kept: what pseudo-runs draw from.

A world is trained once and its files are kept in a folder outside git; what is there already is not trained again.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset, open_dataset
from fusion_models.evaluation import EVALUATION_QUERIES, score
from fusion_models.metrics import blank
from fusion_models.modalities import MODALITIES
from fusion_models.models import FusionRanker
from fusion_models.training import start, train
from spaces.phases import BALANCED, BASE, MULTI_TASK

Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float32]

BLIND = ".blind"
"""After an arm's name: the scores of its rankers with the image blanked to zero."""
QUICK = {"model.layers": 1, "train.epochs": 6, "train.patience": 6}
"""What makes a training short; the recipe is otherwise what it is called."""
VALIDATION = 200


@dataclass(frozen=True)
class World:
    """A planted dataset of which many trainings are recorded."""

    name: str
    source: str
    """With its dials, but for the number of queries and their splits."""
    finalist: str = "balanced"
    """One of FINALISTS."""
    train_queries: int = 0
    """Where it is not the size's: with few of them one training of a recipe differs much from the next."""


FINALISTS: dict[str, Mapping[str, object]] = {"balanced": BALANCED, "multi-task": MULTI_TASK}
WORLDS = (
    World("healthy", "planted:healthy?candidates=12"),
    World("no-visual", "planted:no-visual?candidates=12"),
    World("redundant", "planted:redundant?candidates=12"),
    World("weak image", "planted:healthy?candidates=12&share_visual=0.04"),
    World("few queries", "planted:healthy?candidates=12&visual_width=256&share_visual=0.08", train_queries=120),
    World("seed-case", "planted:seed-case?candidates=12", "multi-task"),
    World(
        "good V2",
        "planted:healthy?candidates=12&share_visual=0.22&share_text=0.16&share_metadata=0.11&v1_noise=0.0",
    ),
)
"""Another world is another line."""


@dataclass(frozen=True)
class Recorded:
    """One world: scores `[N, Q, L]` of N trainings of each arm on the same held-out lists."""

    world: World
    scores: Mapping[str, Scores]
    labels: Floats
    """`[Q, L]`; so are the two below."""
    v1: Floats
    valid: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Size:
    """How much is recorded of a world."""

    trainings: int = 24
    train_queries: int = 1_200
    held_out: int = 8_000

    def source(self, world: World) -> str:
        """The planted dataset: its test split is what is held out."""
        queries = (world.train_queries or self.train_queries) + VALIDATION + self.held_out
        fractions = f"validation_fraction={VALIDATION / queries!r}&test_fraction={self.held_out / queries!r}"
        return f"{world.source}&queries={queries}&{fractions}"


def recipes(world: World) -> dict[str, Recipe]:
    """Arm -> recipe: the finalist, the finalist without each modality, the base, and the base without the image."""
    base = BASE.updated(QUICK)
    finalist = base.updated(FINALISTS[world.finalist])
    out = {"finalist": finalist}
    out |= {f"without {m}": finalist.restricted(tuple(o for o in MODALITIES if o != m)) for m in MODALITIES}
    return out | {"base": base, "base without visual": base.restricted(("text", "metadata"))}


def record(world: World, size: Size, folder: Path) -> Iterator[str]:
    """Train what is missing, one training a step; yields a line for each."""
    home = _home(world, size, folder)
    home.mkdir(parents=True, exist_ok=True)
    missing = [
        (seed, name, recipe)
        for seed in range(size.trainings)
        for name, recipe in recipes(world).items()
        if not _file(home, name, seed).exists()
    ]
    if not missing and (home / "lists.npz").exists():
        return
    data = open_dataset(size.source(world))
    for seed, name, recipe in missing:
        began = time.perf_counter()
        state = start(recipe, data, seed=seed)
        for _ in train(state, data):
            pass
        state.model.load_state_dict(state.best_weights)
        found = score(state.model, data, "test")
        if not (home / "lists.npz").exists():
            _write(home / "lists.npz", labels=found.labels.numpy(), v1=found.v1.numpy(), valid=found.valid.numpy())
        kept = {"scores": found.scores.numpy().astype(np.float32)}
        if name == "finalist":
            kept["blind"] = _blind_scores(state.model, data)
        _write(_file(home, name, seed), **kept)
        yield f"{world.name}: {name}, seed {seed}, {time.perf_counter() - began:.1f} s"


def read(world: World, size: Size, folder: Path) -> Recorded:
    """What was recorded of a world: of every arm as many trainings as the arm with the fewest has.

    Raises FileNotFoundError where nothing was.
    """
    home = _home(world, size, folder)
    files = {name: [_file(home, name, seed) for seed in range(size.trainings)] for name in recipes(world)}
    whole = [seed for seed in range(size.trainings) if all(paths[seed].exists() for paths in files.values())]
    if not whole:
        raise FileNotFoundError(f"{world.name}: no training is recorded in {home}; run without --draw-only first")
    scores = {name: np.stack([np.load(paths[seed])["scores"] for seed in whole]) for name, paths in files.items()}
    scores[f"finalist{BLIND}"] = np.stack([np.load(files["finalist"][seed])["blind"] for seed in whole])
    lists = np.load(home / "lists.npz")
    labels, v1 = lists["labels"].astype(np.float64), lists["v1"].astype(np.float64)
    return Recorded(world, scores, labels, v1, lists["valid"])


@torch.no_grad()
def _blind_scores(model: FusionRanker, data: RankingDataset) -> Scores:
    """`[Q, L]` with the image blanked to zero, rows ascending."""
    found, queries = [], []
    generator = torch.Generator()
    with model.scores_only():
        for batch in data.batches("test", EVALUATION_QUERIES):
            found.append(model(blank(batch, "visual", "zero", mean=None, generator=generator)).scores.float())
            queries.append(batch.query)
    longest = max(scores.shape[1] for scores in found)
    padded = torch.cat([torch.nn.functional.pad(scores, (0, longest - scores.shape[1])) for scores in found])
    return np.asarray(padded[torch.cat(queries).argsort()].numpy().astype(np.float32))


def _home(world: World, size: Size, folder: Path) -> Path:
    told = json.dumps([size.source(world), {n: r.flat() for n, r in recipes(world).items()}], sort_keys=True)
    return folder / f"{world.name.replace(' ', '-')}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def _file(home: Path, name: str, seed: int) -> Path:
    return home / f"{name.replace(' ', '-')}-{seed:02d}.npz"


def _write(path: Path, **arrays: npt.NDArray[np.generic]) -> None:
    """Whole or not at all."""
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, **arrays)
    part.replace(path)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `size_of` and a caller's list of worlds read."""
    parser.add_argument("--worlds", nargs="*", help="only these", default=[world.name for world in WORLDS])
    parser.add_argument("--trainings", type=int, default=Size.trainings)
    parser.add_argument("--train-queries", type=int, default=Size.train_queries)
    parser.add_argument("--held-out", type=int, default=Size.held_out)
    parser.add_argument(
        "--recorded", type=Path, default=Path.home() / ".cache/fusion-search-recorded", help="folder of the trainings"
    )


def size_of(arguments: argparse.Namespace) -> Size:
    """The size that the flags of `add_arguments` name."""
    return Size(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Size)})


def main() -> None:
    """Record, and nothing else."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for world in WORLDS:
        if world.name in arguments.worlds:
            for line in record(world, size_of(arguments), arguments.recorded):
                print(line, flush=True)


if __name__ == "__main__":
    main()
