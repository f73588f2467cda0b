"""How a training's cost grows: `python benchmarks/scaling.py`. Pairs: each size beside the one before, in one process.

Seconds a step on one thread for queries a batch, candidates, features, width, layers and loss terms; what a worker
sends in a step; seconds to write a checkpoint, and to tell the journal of a trial.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fusion_models.config import LOSS_TERMS, Recipe
from fusion_models.data import open_dataset
from fusion_models.data.batch import Batch
from fusion_models.data.schema import FeatureSchema, FeatureStatistics
from fusion_models.models import build_ranker
from fusion_models.training import TrainingState, save, start, train_step

REPEATS = 7


def best(call: Callable[[], object]) -> float:
    """Smallest of several timings: what the machine can do when nobody else wants it."""
    call()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def step_seconds(queries: int, candidates: int, features: int, changes: dict[str, Any]) -> tuple[float, int]:
    """One training step on random numbers, and the ranker's parameters."""
    import numpy as np

    schema = FeatureSchema(
        widths={"visual": features, "text": features, "metadata": 20}, query=0, pair=0, thumbnail=None
    )
    widths = {"visual": features, "text": features, "metadata": 20, "context": 0}
    statistics = FeatureStatistics(
        mean={m: np.zeros(w, dtype=np.float32) for m, w in widths.items()},
        std={m: np.ones(w, dtype=np.float32) for m, w in widths.items()},
        v1_mean=0.0,
        v1_std=1.0,
    )
    recipe = Recipe().updated(changes)
    model = build_ranker(recipe, schema, statistics)
    shape = (queries, candidates)
    batch = Batch(
        features={m: torch.randn(*shape, widths[m]) for m in ("visual", "text", "metadata")},
        context=torch.zeros(*shape, 0),
        labels=torch.randint(0, 3, shape).float(),
        v1=torch.randn(shape),
        valid=torch.ones(shape, dtype=torch.bool),
        query=torch.arange(queries),
        item=torch.arange(queries * candidates).reshape(shape),
    )
    state = TrainingState(
        recipe=recipe,
        seed=0,
        model=model,
        optimiser=torch.optim.AdamW([{"params": list(model.parameters()), "scale": 1.0}], fused=True),
        device=torch.device("cpu"),
        generator=torch.Generator().manual_seed(0),
        random_state=torch.get_rng_state(),
    )
    seconds = best(lambda: train_step(state, batch, progress=0.5))
    return seconds, sum(p.numel() for p in model.parameters())


def growth(name: str, sizes: list[int], measure: Callable[[int], float]) -> None:
    """A row of sizes with the time of each and its ratio to the one before."""
    found = [measure(size) for size in sizes]
    cells = [f"{sizes[0]}: {1e3 * found[0]:.1f} ms"]
    cells += [f"{s}: {1e3 * t:.1f} ms (x{t / b:.2f})" for s, t, b in zip(sizes[1:], found[1:], found, strict=False)]
    print(f"{name:<26}{'   '.join(cells)}")


def journal_cost(trials: int) -> float:
    """Seconds a trial of asking and telling with as many trials in the journal, sampler at random."""
    from search.run_store.job import Outcome
    from search.run_store.journal import open_journal
    from search.study.search_stage import SearchStage
    from spaces import PHASES

    with tempfile.TemporaryDirectory() as scratch:
        storage = open_journal(Path(scratch) / "study.journal")
        stage = SearchStage(storage, PHASES["phase1"], sampler="random", trials=trials, seed=0)
        numbers = dict.fromkeys(("ndcg_gain", "visual_masking_drop", "attention_max_share", "v1_correlation"), 0.5)
        numbers |= {"ndcg": 0.5}
        times = []
        while (job := stage.ask()) is not None:
            began = time.perf_counter()
            stage.tell(job, Outcome(state="finished", reason="", epochs=1, numbers=numbers, seconds=1.0))
            times.append(time.perf_counter() - began)
        tail = sorted(times[-20:])
        return tail[len(tail) // 2]


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    every = {Recipe().key(f"loss.{term}"): 0.1 for term in LOSS_TERMS}
    print("seconds a step, one thread, best of", REPEATS)
    growth("queries a batch", [16, 32, 64], lambda n: step_seconds(n, 20, 96, {})[0])
    growth("candidates", [10, 20, 40], lambda n: step_seconds(32, n, 96, {})[0])
    growth(
        "candidates, neural_ndcg", [10, 20, 40], lambda n: step_seconds(32, n, 96, {"loss.ranking": "neural_ndcg"})[0]
    )
    growth("features a modality", [96, 384, 1536], lambda n: step_seconds(32, 20, n, {})[0])
    growth("width", [32, 64, 128], lambda n: step_seconds(32, 20, 96, {"model.width": n})[0])
    growth("layers", [2, 4, 8], lambda n: step_seconds(32, 20, 96, {"model.layers": n})[0])
    growth("without, with every term", [0, 1], lambda n: step_seconds(32, 20, 96, every if n else {})[0])
    growth("whole batch, slices of 8", [0, 8], lambda n: step_seconds(32, 20, 96, {"train.slice_queries": n})[0])
    parameters = step_seconds(32, 20, 96, {})[1]
    print(f"\na worker sends {4 * parameters / 1e6:.2f} MB of gradients a step ({parameters:,} parameters)")
    data = open_dataset("planted?queries=160&candidates=8")
    with tempfile.TemporaryDirectory() as scratch:
        for width in (32, 128):
            state = start(Recipe().updated({"model.width": width}), data, seed=0)
            seconds = best(lambda state=state: save(state, Path(scratch) / "training"))  # type: ignore[misc]
            size = sum(p.stat().st_size for p in (Path(scratch) / "training").iterdir()) / 1e6
            print(f"a checkpoint of width {width}: {1e3 * seconds:.0f} ms for {size:.1f} MB, fsync included")
    growth("\njournal, trials told", [50, 100, 200], journal_cost)


if __name__ == "__main__":
    main()
