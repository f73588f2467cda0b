"""What an error says of the memory, the device and the disk that a training ran on."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

import torch

_NO_MEMORY = re.compile(
    r"can't allocate memory|(?:CUDA|HIP) (?:error: )?out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
)
"""What torch says, as a plain RuntimeError, where the machine or its device has no more memory to give."""
_DEVICE = re.compile(r"(?:CUDA|HIP) error: |CUDNN_STATUS_EXECUTION_FAILED")
_NO_ROOM = re.compile(rf"os error (?:{errno.ENOSPC}|{errno.EDQUOT})\b|No space left on device|Disk quota exceeded")
"""Of libraries in Rust too, whose errors are no OSError: safetensors."""
_REFUSED = re.compile(r"\(os error \d+\)|PytorchStreamWriter failed")
_RECORDING = re.compile(r"captur|Offset increment outside graph", re.IGNORECASE)
"""Of errors that end the recording of a CUDA graph, and nothing more."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it came from, is for want of memory."""
    return any(isinstance(e, torch.OutOfMemoryError | MemoryError) or _NO_MEMORY.search(str(e)) for e in _chain(error))


def lost_device(error: BaseException) -> bool:
    """Whether a process can do nothing more on its device after an error.

    An illegal access or an assertion in a kernel breaks CUDA's context: every later call of the process fails as well.
    """
    if out_of_memory(error):
        return False
    return any(
        (isinstance(e, torch.AcceleratorError) or _DEVICE.search(str(e)) is not None) and not _RECORDING.search(str(e))
        for e in _chain(error)
    )


def disk_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, is for want of room on a disk."""
    return any(
        (isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT)) or _NO_ROOM.search(str(e))
        for e in _chain(error)
    )


def refused_by_system(error: BaseException) -> bool:
    """Whether an error, or one that it came from, is the system's: of a file, a disk or a network."""
    return any(isinstance(e, OSError) or _REFUSED.search(str(e)) for e in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it came from: what ends a recording hides why it ended."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        seen.append(following)
        following = following.__cause__ or following.__context__
    yield from seen
