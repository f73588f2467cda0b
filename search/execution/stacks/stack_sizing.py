"""`--stack auto` on a GPU: measured once a run, with its own recipe and data, before trainings begin."""

from __future__ import annotations

import contextlib

import ray
import torch
from ray.exceptions import RayError

from fusion_models.config import Recipe
from fusion_models.training import start
from fusion_models.training.stack import why_alone
from fusion_models.training.stack.sizing import Sized, best_size, measured_sizes
from search.execution.capacity import keep_stack_size, knows_stack_size, most_on_a_gpu, sizes_itself
from search.execution.file_transfer import DataTicket
from search.options import RunOptions

CONTEXT_BYTES = 512 * 1024**2
"""What CUDA itself takes of a GPU for each process."""
ROOM = 0.9
"""Of a worker's part of a GPU, what trainings may take: the search's other recipes may be larger than the base one."""
SMALL_SIZES = (1, 4)


def measure_stack_size(options: RunOptions, data: DataTicket, recipe: Recipe) -> str:
    """Have a worker find out how large a stack pays where `--stack` is auto, and keep it for `stack_size`.

    Returns what was found, in a line; empty where there was nothing to measure: on a CPU, on a cluster (whose GPUs may
    not be there yet), and where it could not be, which leaves the size that memory alone suggests.
    """
    here = ray.cluster_resources()
    room = here.get("GPU", 0) >= options.gpus_per_worker and here.get("CPU", 0) >= options.cpus_per_worker
    if options.address is not None or not sizes_itself(options) or knows_stack_size(options) or not room:
        return ""
    sizes = sorted({*SMALL_SIZES, most_on_a_gpu(options)})
    sizes = [size for size in sizes if size <= most_on_a_gpu(options)]
    share = min(1.0, options.gpus_per_worker)
    task = ray.remote(num_cpus=options.cpus_per_worker, num_gpus=options.gpus_per_worker, max_calls=1)(_measure)
    with contextlib.suppress(RayError):
        size, found = ray.get(task.remote(data, recipe, options.cpus_per_worker, share, sizes))
        keep_stack_size(options, size)
        return _said(size, found)
    return ""


def _said(size: int, found: list[Sized]) -> str:
    told = ", ".join(f"{each.members}: {each.seconds / each.members:.2f} s" for each in found)
    return f"stacks of {size}, the most that pay (seconds of an epoch for each of {told})" if found else ""


def _measure(data: DataTicket, recipe: Recipe, cpus: int, share: float, sizes: list[int]) -> tuple[int, list[Sized]]:
    """On a GPU: the size that pays, and what was measured."""
    torch.set_num_threads(max(1, cpus))
    opened, device = data.open(), torch.device("cuda", torch.cuda.current_device())
    if why_alone(start(recipe, opened, seed=0, device=device), opened):
        return 1, []
    found = measured_sizes(recipe, opened, device, sizes, share=share)
    total = torch.cuda.get_device_properties(device).total_memory
    return best_size(found, ROOM * share * total - CONTEXT_BYTES), found
