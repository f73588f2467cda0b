"""What the model's own process does: score, blank, take apart and time, and write all of it as one array file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models import latency
from fusion_models.contribution import INTERACTION_REFERENCES
from fusion_models.data import RankingDataset, open_dataset
from fusion_models.data.batch import Batch
from fusion_models.evaluation import EVALUATION_QUERIES, SHUFFLE_DRAWS, Blanking, score_with
from fusion_models.export import Scorer
from fusion_models.metrics import additive_projection, blank, keep_only, poisson_arrivals, subsets
from fusion_models.metrics.masking import BLANKS
from search.audit.model.files import open_model
from search.audit.model.input_map import InputMap
from search.audit.model.scorer import known_map, scorer_of
from search.pipeline.release.runtime_variants import FEWEST_REQUESTS, REQUESTS, UTILISATION, WARM_UP

Arrays = dict[str, npt.NDArray[Any]]
Say = Callable[[str], None]
SPLITS = ("validation", "test")
TIMED_SECONDS = 60.0
"""About how long the arrivals last at the most."""
SHUFFLES = BLANKS[2:]


def main() -> None:
    """Read a job (JSON) from standard input, do it, and say on file descriptor ARGV[1] how it goes, a line each."""
    os.set_inheritable(int(sys.argv[1]), False)  # what the model starts has no part in it
    channel = os.fdopen(int(sys.argv[1]), "w", buffering=1)

    def say(**said: Any) -> None:
        channel.write(json.dumps(said) + "\n")

    job = json.loads(sys.stdin.read())
    try:
        say(doing="opening the model")
        measure(job, lambda doing: say(doing=doing))
    except ValueError as error:
        say(error=" ".join(str(error).split()))
        raise SystemExit(1) from None
    say(done=True)


def measure(job: Mapping[str, Any], say: Say) -> None:
    """Everything that an audit wants of the model; one `.npz` at `job["into"]`."""
    torch.set_num_threads(1)
    given = InputMap.from_plain(job["inputs"])
    data = open_dataset(job["data"])
    modalities = tuple(data.item_features)
    model = open_model(job["model"], given.output, threads=1)
    doing = [""]

    def tick() -> None:
        say(doing[0])

    def now(what: str) -> None:
        doing[0] = what
        say(what)

    known = known_map(model, given, modalities)
    scorer = scorer_of(model, known, modalities, tick)
    of_blanked = scorer_of(model, known, modalities, tick, rounded=True)
    out: Arrays = {"runtime": np.array(model.runtime)}
    for split in SPLITS:
        now(f"scoring the {split} split")
        out[f"{split}.scores"] = _flat(scorer, data, split)
        kinds = BLANKS if split == "test" else BLANKS[:1]
        out |= _blanked(of_blanked, data, split, Blanking(modalities, kinds, job["seed"]), now)
    out |= _kept(scorer, data, modalities, now)
    if not known.in_lists:
        out["test.additive"] = _additive(scorer, data, modalities, job["seed"], now)
    now("timing single queries")
    out["latency"] = _latency(scorer, data, job["seed"])
    np.savez(Path(job["into"]), allow_pickle=False, **out)


def _flat(scorer: Scorer, data: RankingDataset, split: str) -> npt.NDArray[np.float64]:
    """Scores of every document of a split, query after query, rows ascending."""
    scored = score_with(scorer, data, split)
    return np.asarray(scored.scores[scored.valid].double().numpy())


def _blanked(scorer: Scorer, data: RankingDataset, split: str, blanking: Blanking, now: Say) -> Arrays:
    """`SPLIT.blanked.MODALITY.KIND` -> `[D, documents]`; a batch's draws are those of `evaluation.evaluate`."""
    found: dict[str, list[npt.NDArray[np.float64]]] = {}
    order: list[npt.NDArray[np.int64]] = []
    for index, rows in enumerate(data.row_batches(split, EVALUATION_QUERIES)):
        batch = data.gather(rows)
        generator = torch.Generator().manual_seed(blanking.seed + index)
        order.append(np.repeat(batch.query.numpy(), batch.valid.sum(dim=1).numpy()))
        for modality, kind in blanking.of(tuple(data.item_features)):
            now(f"blanking {modality} ({kind}) on the {split} split, batch {index + 1}")
            mean = data.statistics.mean[modality] if kind == "mean" else None
            draws = [
                scorer(blank(batch, modality, kind, mean=mean, generator=generator))[batch.valid].numpy()
                for _ in range(SHUFFLE_DRAWS if kind in SHUFFLES else 1)
            ]
            found.setdefault(f"{split}.blanked.{modality}.{kind}", []).append(np.stack(draws))
    sorting = np.argsort(np.concatenate(order), kind="stable")
    return {name: np.concatenate(parts, axis=1)[:, sorting] for name, parts in found.items()}


def _kept(scorer: Scorer, data: RankingDataset, modalities: Sequence[str], now: Say) -> Arrays:
    """`test.kept.SUBSET` -> scores with all other modalities at zero, of every proper subset."""
    out = {}
    for subset in subsets(modalities):
        if len(subset) < len(modalities):
            name = "+".join(m for m in modalities if m in subset)
            now(f"keeping {name or 'no modality'} on the test split")
            out[f"test.kept.{name}"] = _flat(_keeping(scorer, subset), data, "test")
    return out


def _keeping(scorer: Scorer, subset: frozenset[str]) -> Scorer:
    return lambda batch: scorer(keep_only(batch, subset, "zero"))


def _additive(
    scorer: Scorer, data: RankingDataset, modalities: Sequence[str], seed: int, now: Say
) -> npt.NDArray[np.float64]:
    """The additive projection of the scores of every document of the test split."""
    generator = torch.Generator().manual_seed(seed)
    now("additive projection on the test split")

    def additive(batch: Batch) -> Tensor:
        return additive_projection(
            scorer, batch, modalities=modalities, references=INTERACTION_REFERENCES, generator=generator
        )

    return _flat(additive, data, "test")


def _latency(scorer: Scorer, data: RankingDataset, seed: int) -> npt.NDArray[np.float64]:
    """Milliseconds of single queries of the validation split, open loop, as phase 4 times its finalist: one thread."""
    asked = latency.single_requests(data, "validation", WARM_UP + REQUESTS)
    answer = latency.answerer(scorer, data)
    seconds = latency.warm_seconds(answer, asked[:WARM_UP])
    rate = UTILISATION / max(seconds, 1e-6)
    count = int(np.clip(TIMED_SECONDS * rate, FEWEST_REQUESTS, REQUESTS))
    arrivals = poisson_arrivals(rate, count, np.random.default_rng(seed))
    return latency.open_loop(answer, asked[WARM_UP : WARM_UP + count], arrivals)
