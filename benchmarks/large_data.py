"""What a large dataset costs, from the door to the intervals: `python benchmarks/large_data.py --judgements 100000`.

For each size a shop of a tenth as many items (512 features each) and a tenth as many queries of 10 candidates is
written, and each stage runs in a process of its own: seconds, and the most memory that it held of its own (`RssAnon`,
over what its imports take) and with the mapped arrays (`RssAnon` + `RssFile`). The last lines say how the time and the
memory of each stage grow from size to size: 1.0 is linear. Kept tables of a size (`--folder`) are used again.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WIDTHS = {"visual": 256, "text": 236, "metadata": 20}
CANDIDATES = 10
ITEMS_AT_ONCE = 20_000
STEPS = 400
"""An epoch is measured by so many of its steps."""
MEMBERS = 5


def write_shop(folder: Path, judgements: int) -> None:
    """Three tables whose labels hang on two features of each modality; streamed, so that any size fits."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    count = queries = judgements // CANDIDATES
    worth = np.empty(count, dtype=np.float32)
    fields = [pa.field("item_id", pa.string())]
    fields += [pa.field(name, pa.list_(pa.float32(), width)) for name, width in WIDTHS.items()]
    with pq.ParquetWriter(folder / "items.parquet", pa.schema(fields)) as writer:
        for first in range(0, count, ITEMS_AT_ONCE):
            rows = min(ITEMS_AT_ONCE, count - first)
            drawn = {name: generator.standard_normal((rows, width), dtype=np.float32) for name, width in WIDTHS.items()}
            worth[first : first + rows] = sum(values[:, :2].sum(1) for values in drawn.values())
            columns = [pa.array([f"item-{first + i}" for i in range(rows)])]
            columns += [pa.FixedSizeListArray.from_arrays(v.ravel(), v.shape[1]) for v in drawn.values()]
            writer.write_batch(pa.record_batch(columns, schema=pa.schema(fields)))
    named = pa.array(np.char.add("query-", np.arange(queries).astype(str)))
    words = pa.array([f"w{a} w{b}" for a, b in generator.integers(0, max(50, queries // 5), (queries, 2))])
    pq.write_table(pa.table({"query_id": named, "text": words}), folder / "queries.parquet")
    start = generator.integers(0, count, queries)
    item = (start[:, None] + np.arange(CANDIDATES) * 7919) % count
    truth = worth[item] + generator.normal(0, 1, item.shape)
    label = np.digitize(truth, np.quantile(truth, [0.6, 0.85, 0.95])).ravel()
    v1 = (0.5 * worth[item] + generator.normal(0, 1, item.shape)).ravel()
    names = pa.array(np.char.add("item-", item.ravel().astype(str)))
    table = {"query_id": pa.array(np.repeat(named.to_numpy(zero_copy_only=False), CANDIDATES)), "item_id": names}
    pq.write_table(pa.table(table | {"label": label, "v1_score": v1}), folder / "judgements.parquet")


def door(folder: Path) -> str:
    """Read, check and lay out as arrays."""
    from fusion_models.data import open_dataset

    data = open_dataset(folder)
    return f"{data.counts['judgements']:,} judgements"


def _opened(folder: Path) -> Any:
    from fusion_models.data import open_dataset

    return open_dataset(folder)


def tuned_v1(folder: Path) -> str:
    """The trees on V1's features that a recipe may read: fitted once a machine."""
    from fusion_models.tuned_v1 import prepare
    from spaces import PHASES

    prepare(_opened(folder), [PHASES["phase3"].base.updated({"model.context": "tuned_v1"})])
    return ""


def first_step(folder: Path) -> str:
    """Open the arrays, build the base recipe's ranker, take one step."""
    return _steps(folder, 1)


def epoch(folder: Path) -> str:
    """`STEPS` steps; the seconds are those of a whole epoch at that pace."""
    return _steps(folder, STEPS)


def _steps(folder: Path, most: int) -> str:
    from fusion_models.training import start, train_step
    from fusion_models.tuned_v1 import seen_by
    from spaces import PHASES

    data, recipe = _opened(folder), PHASES["phase3"].base
    state = start(recipe, data, seed=0)
    seen = seen_by(state.model, data)
    steps = math.ceil(len(data.rows("train")) / recipe.train.batch_queries)
    began, done = time.perf_counter(), 0
    for batch in seen.batches("train", recipe.train.batch_queries, generator=state.generator):
        train_step(state, batch, progress=0.5)
        done += 1
        if done == most:
            break
    each = (time.perf_counter() - began) / done
    return f"{each * steps:.3f} s an epoch of {steps:,} steps" if most > 1 else ""


def evaluation(folder: Path) -> str:
    """Validation, every modality blanked in turn, as at the end of a training."""
    _evaluated(folder, "validation")
    return ""


def _evaluated(folder: Path, split: str) -> tuple[Any, Any]:
    from fusion_models.evaluation import evaluate
    from fusion_models.training import start
    from fusion_models.tuned_v1 import seen_by
    from spaces import PHASES

    data = _opened(folder)
    model = start(PHASES["phase3"].base, data, seed=0).model
    return data, evaluate(model, seen_by(model, data), split).outputs


def baselines(folder: Path) -> str:
    """One of the fifteen LambdaMARTs, on everything, and its scores of validation."""
    from fusion_models.lambdamart import TreeInputs, train_lambdamart, tree_scores
    from fusion_models.modalities import MODALITIES

    data = _opened(folder)
    trees = train_lambdamart(data, data.rows("train"), TreeInputs(modalities=MODALITIES, with_v1=True), seed=0)
    tree_scores(trees, data, "validation")
    return f"{trees.queries:,} training queries of {len(data.rows('train')):,}"


def confirmation(folder: Path) -> str:
    """The test split: one ranker measured; five trainings as an ensemble; its quantities, and a refit gain."""
    import dataclasses

    from fusion_models.data.crossed_clusters import crossed_clusters
    from fusion_models.quantities import ensemble
    from search.analysis.measure import quantities, recipe_arm

    data, outputs = _evaluated(folder, "test")
    generator = np.random.default_rng(0)
    trainings = [
        dataclasses.replace(outputs, scores=outputs.scores + generator.normal(0, 0.1, outputs.scores.shape))
        for _ in range(MEMBERS)
    ]
    clusters = crossed_clusters(data, "test")
    quantities(ensemble(trainings[: MEMBERS - 1]), clusters=clusters, level=0.97)
    recipe_arm(trainings, MEMBERS - 1)
    return f"{len(outputs.lists.rows):,} test queries"


def front(folder: Path) -> str:
    """How surely each of eight trials is on the front, as the report says it: written, read back, drawn anew."""
    import dataclasses

    from fusion_models.data.clusters import query_clusters
    from search.analysis.replicates import p_on_front
    from search.run_store.artifacts import OUTPUTS, write_outputs
    from search.run_store.folder import RunFolder
    from search.run_store.job import TrialRecord
    from spaces import PHASES

    data, outputs = _evaluated(folder, "validation")
    phase, generator = PHASES["phase3"], np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        run, records = RunFolder(Path(scratch)), []
        for index in range(8):
            (run.checkpoints / str(index)).mkdir(parents=True)
            noisy = outputs.scores + generator.normal(0, 0.1, outputs.scores.shape)
            write_outputs(dataclasses.replace(outputs, scores=noisy), run.checkpoints / str(index) / OUTPUTS)
            said = {"trial_id": str(index), "stage": "search", "name": "sampled", "state_reason": "", "epochs": 1}
            records.append(TrialRecord(**said, state="finished", seed=0, recipe=phase.base.flat()))
        p_on_front(run, phase, records, outputs.lists, clusters=query_clusters(data, "validation"), seed=0)
    return ""


def integrity(folder: Path) -> str:
    """What is asked of the splits before the test split is opened, and of the columns: copies, isolation, leaks."""
    from fusion_models.integrity import (
        copies_check,
        isolation_checks,
        leak_probe_checks,
        logged_check,
        order_check,
        separability_checks,
    )

    data, generator = _opened(folder), np.random.default_rng(0)
    checks = [
        *isolation_checks(data, "test"),
        copies_check(data, "test"),
        *separability_checks(data, "test", generator),
        logged_check(data, "test", generator),
        *leak_probe_checks(data, generator),
        order_check(data, generator),
    ]
    return f"{len(checks)} checks"


STAGES: dict[str, Callable[[Path], str]] = {
    "door": door,
    "tuned V1": tuned_v1,
    "first step": first_step,
    "epoch": epoch,
    "evaluation": evaluation,
    "baselines": baselines,
    "confirmation": confirmation,
    "front": front,
    "integrity": integrity,
}


class Memory(threading.Thread):
    """Looks twenty times a second how much memory this process holds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own, self.all = held()

    def run(self) -> None:
        while True:
            own, everything = held()
            self.own, self.all = max(self.own, own), max(self.all, everything)
            time.sleep(0.05)


def held() -> tuple[int, int]:
    """MiB of this process: its own, and its own with mapped files."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    own, files = (int(lines[name].split()[0]) // 1024 for name in ("RssAnon", "RssFile"))
    return own, own + files


def measure(name: str, folder: Path) -> None:
    """Run one stage here and print what it took, as JSON."""
    import torch

    for module in ("fusion_models.evaluation", "search.analysis.measure", "spaces", "lightgbm"):
        importlib.import_module(module)  # so that their time and memory are not the stage's

    torch.set_num_threads(1)
    before, _ = held()
    memory = Memory()
    memory.start()
    began = time.perf_counter()
    note = STAGES[name](folder)
    seconds = time.perf_counter() - began
    if note.endswith("steps"):
        seconds, note = float(note.split(" s ")[0]), note.partition(" s ")[2]
    print(json.dumps({"seconds": seconds, "own": memory.own - before, "all": memory.all, "note": note}))


def main() -> int:
    """Every stage at every size, then how they grow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judgements", type=int, nargs="+", default=[100_000, 300_000])
    parser.add_argument("--folder", type=Path, help="keeps the tables and the arrays (default: a folder that goes)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.stage:
        measure(asked.stage, asked.folder)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        root = asked.folder or Path(scratch)
        found = {size: _stages(root, size, asked.stages) for size in asked.judgements}
    print("\nexponent of growth (1.0: linear), time and own memory:")
    for name, (one, two) in itertools.product(asked.stages, itertools.pairwise(asked.judgements)):
        ratio = math.log(two / one)
        said = [
            math.log(max(found[two][name][k], least) / max(found[one][name][k], least)) / ratio
            for k, least in (("seconds", 1e-3), ("own", 1))
        ]
        print(f"{name:<14}{one:>10,} to {two:>10,}: {said[0]:5.2f} {said[1]:5.2f}")
    return 0


def _stages(root: Path, size: int, names: list[str]) -> dict[str, dict[str, Any]]:
    import os

    folder = root / f"shop-{size}"
    if not folder.exists():
        write_shop(folder, size)
    environment = os.environ | {"FUSION_SEARCH_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"}
    out = {}
    for name in names:
        command = [sys.executable, __file__, "--stage", name, "--folder", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"{name} at {size:,} failed:\n{done.stderr[-2000:]}")
        out[name] = json.loads(done.stdout.splitlines()[-1])
        said = out[name]
        line = (
            f"{size:>10,} judgements  {name:<14}{said['seconds']:>9.1f} s {said['own']:>7,} MiB own {said['all']:>7,}"
        )
        print(f"{line} MiB with maps  {said['note']}", flush=True)
    return out


if __name__ == "__main__":
    sys.exit(main())
