"""Trainings an hour, alone and in stacks: `python benchmarks/stack.py [--short]`. For a machine with a CUDA device.

For each model size, in one process and on one device: one training at a time, stacks of 1 to 64, and 64 trainings in N
processes that share the device (each one at a time); then the step of the largest stack against its floor. What is
timed are whole epochs, evaluation included, after one epoch that records graphs and fills caches (its seconds stand
apart). `--mps` starts CUDA's multi-process service for the processes, where the machine has it.

The floor is what the operations of the step would take at the rates that this device reaches here and now:
multiply-adds of its matrix products at the rate of a large product of their type, and the bytes that each operation
reads and writes at the rate of a large copy. It is the floor of these operations, not of a step fused by hand.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset, open_dataset
from fusion_models.training import start, train
from fusion_models.training.stack import Stack
from fusion_models.training.stack.plan import chunks

SIZES: dict[str, dict[str, Any]] = {
    "small": {"model.width": 16, "model.layers": 2},
    "default": {},
    "large": {"model.width": 128, "model.layers": 4},
}
EPOCHS = 12
"""Of one training; trainings an hour are counted with it, evaluation at each epoch included."""


def recipe_of(size: str, precision: str) -> Recipe:
    """A search's trial: the default variant with two terms on, dropout as it is by default."""
    terms = {"loss.visual_importance": 0.3, "loss.unimodal": 0.2, "train.epochs": 1000, "train.patience": 1000}
    return Recipe().updated(SIZES[size] | terms | {"train.precision": precision})


def waited(device: torch.device) -> float:
    """The clock, once the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def epoch_seconds(epochs: Iterable[object], device: torch.device, repeats: int) -> tuple[float, float]:
    """Seconds of the first epoch, and the median of the next ones."""
    iterator = iter(epochs)
    times = []
    for _ in range(repeats + 1):
        began = waited(device)
        next(iterator)
        times.append(waited(device) - began)
    return times[0], statistics.median(times[1:])


def alone(size: str, data: RankingDataset, device: torch.device, precision: str, repeats: int) -> tuple[float, float]:
    """First and later epochs of one training."""
    state = start(recipe_of(size, precision), data, seed=0, device=device)
    return epoch_seconds(train(state, data), device, repeats)


def stacked(
    size: str, members: int, data: RankingDataset, device: torch.device, precision: str, repeats: int
) -> tuple[float, float, Stack]:
    """First and later epochs of a stack whose members differ in rate, weights and dropout."""
    stack = Stack(data, device)
    for seed in range(members):
        own = {"train.learning_rate": 1e-3 * (1 + seed / members), "model.dropout": 0.1 + 0.1 * seed / members}
        recipe = recipe_of(size, precision).updated(own | {"loss.unimodal": 0.1 + 0.2 * seed / members})
        stack.join(start(recipe, data, seed=seed, device=device))

    def epochs() -> Iterable[object]:
        while True:
            yield stack.epoch()

    first, later = epoch_seconds(epochs(), device, repeats)
    return first, later, stack


def sharing(size: str, processes: int, arguments: argparse.Namespace) -> float:
    """Seconds of an epoch of each of N processes that train beside each other on the one device.

    Raises MemoryError where one of them ended without a number: what it said stands above.
    """
    command = [sys.executable, __file__, "--worker", size, "--data", arguments.data, "--device", arguments.device]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    said = [worker.communicate()[0].strip() for worker in workers]
    if any(worker.returncode != 0 for worker in workers):
        raise MemoryError
    return statistics.median(json.loads(lines.splitlines()[-1]) for lines in said)


def work_beside_others(size: str, data: RankingDataset, device: torch.device, precision: str) -> float:
    """An epoch's seconds while the others start, train and stop too: the middle of what ran for ten seconds."""
    epochs = train(start(recipe_of(size, precision), data, seed=0, device=device), data)
    next(epochs)
    times, began = [], time.perf_counter()
    while time.perf_counter() - began < 10.0:
        before = waited(device)
        if next(epochs, None) is None:
            break
        times.append(waited(device) - before)
    middle = times[len(times) // 4 : max(len(times) // 4 + 1, 3 * len(times) // 4)]
    return statistics.median(middle)


class Traffic(TorchDispatchMode):
    """Bytes that every operation reads and writes; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        read = [x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        wrote = [x for x in torch.utils._pytree.tree_leaves(out) if isinstance(x, torch.Tensor)]
        known = {x.untyped_storage().data_ptr() for x in read}
        view = not func._schema.is_mutable and all(x.untyped_storage().data_ptr() in known for x in wrote)
        if not view:
            self.operations += 1
            self.bytes += sum(x.numel() * x.element_size() for x in (*read, *wrote) if x.numel() < 1 << 31)
        return out


def floor(stack: Stack, device: torch.device) -> dict[str, float]:
    """Seconds of one step of a stack as it runs, and what its products and its bytes would take."""
    built = stack._built
    assert built is not None
    plan = chunks(built.places, stack.data, built.stepper.draws, device, stack.tables.index_device)
    chunk = next(plan)
    built.stepper.run(chunk)
    began = waited(device)
    for _ in range(3):
        built.stepper.run(chunk)
    step = (waited(device) - began) / (3 * len(chunk.steps))
    eager = type(built.stepper)(built.ranker, built.optimiser, stack.tables, built.stepper.draws, graphs=False)
    one = type(chunk)(chunk.steps[:1], chunk.rows[:1], chunk.places, chunk.numbers, chunk.rates)
    eager.run(one)
    began = waited(device)
    eager.run(one)
    eager_step = waited(device) - began
    with Traffic() as traffic:
        eager.run(one)
    with FlopCounterMode(display=False) as flops:
        eager.run(one)
    kind = torch.bfloat16 if built.ranker.half else torch.float32
    return {
        "step_ms": 1e3 * step,
        "eager_step_ms": 1e3 * eager_step,
        "operations": traffic.operations,
        "products_ms": 1e3 * flops.get_total_flops() / matmul_rate(device, kind),
        "bytes_ms": 1e3 * traffic.bytes / copy_rate(device),
    }


def matmul_rate(device: torch.device, kind: torch.dtype) -> float:
    """Floating-point operations a second of a large product."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = torch.randn(n, n, device=device, dtype=kind), torch.randn(n, n, device=device, dtype=kind)
    for _ in range(3):
        a @ b
    began = waited(device)
    for _ in range(10):
        a @ b
    return 10 * 2 * n**3 / (waited(device) - began)


def copy_rate(device: torch.device) -> float:
    """Bytes a second, read and written, of a large copy."""
    n = 1 << (30 if device.type == "cuda" else 25)
    a, b = torch.empty(n, dtype=torch.uint8, device=device), torch.empty(n, dtype=torch.uint8, device=device)
    b.copy_(a)
    began = waited(device)
    for _ in range(10):
        b.copy_(a)
    return 10 * 2 * n / (waited(device) - began)


def an_hour(seconds_an_epoch: float, members: int = 1) -> float:
    """Trainings an hour."""
    return 3600.0 * members / (EPOCHS * seconds_an_epoch)


def measure(size: str, data: RankingDataset, device: torch.device, arguments: argparse.Namespace) -> None:
    """Print one model size's rows."""
    _, one = alone(size, data, device, arguments.precision, arguments.repeats)
    base = an_hour(one)
    row = "| {:8} | {:22} | {:10.3f} | {:9.2f} | {:12.0f} | {:6.2f}x |"
    print(row.format(size, "one at a time", one, 0.0, base, 1.0), flush=True)
    stack = None
    for members in arguments.stacks:
        stack = None  # the last one's memory goes before the next one's comes
        try:
            first, later, stack = stacked(size, members, data, device, arguments.precision, arguments.repeats)
        except torch.OutOfMemoryError:
            print(f"| {size:8} | {f'stack of {members}':22} | no room in memory", flush=True)
            break
        found = an_hour(later, members)
        print(row.format(size, f"stack of {members}", later, first, found, found / base), flush=True)
    if stack is not None:
        found_floor = floor(stack, device)
        print(f"  floor of {size}: " + ", ".join(f"{k} {v:.3f}" for k, v in found_floor.items()), flush=True)
    stack = None
    for processes in arguments.processes:
        try:
            later = sharing(size, processes, arguments)
        except MemoryError:
            print(f"| {size:8} | {f'{processes} processes':22} | one ended by itself", flush=True)
            continue
        found = an_hour(later, processes)
        print(row.format(size, f"{processes} processes", later, 0.0, found, found / base), flush=True)


def main() -> None:
    """Measure what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="clipart")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--stacks", nargs="*", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--processes", nargs="*", type=int, default=[4, 16])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--short", action="store_true", help="default size alone, fewer stacks, one count of processes")
    parser.add_argument("--mps", action="store_true", help="start CUDA's multi-process service first")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device, data = torch.device(arguments.device), open_dataset(arguments.data)
    if arguments.worker:
        torch.set_num_threads(1)
        print(json.dumps(work_beside_others(arguments.worker, data, device, arguments.precision)))
        return
    if arguments.short:
        arguments.sizes, arguments.stacks, arguments.processes = ["default"], [1, 8, 64], [8]
        arguments.repeats = 3
    if arguments.mps:
        control = shutil.which("nvidia-cuda-mps-control")
        if control is None or subprocess.run([control, "-d"]).returncode != 0:
            print("NOT MEASURED: this machine does not start CUDA's multi-process service")
            arguments.processes = []
    name = torch.cuda.get_device_name() if device.type == "cuda" else "a CPU"
    print(f"{name}, torch {torch.__version__}, {data!r}, precision {arguments.precision}")
    print("| size     | what                   | s an epoch | first, s  | trainings/h  | gain    |")
    print("|---|---|--:|--:|--:|--:|", flush=True)
    for size in arguments.sizes:
        measure(size, data, device, arguments)


if __name__ == "__main__":
    main()
