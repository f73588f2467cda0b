"""Freed memory kept by the process that trains, so that the next step does not fault it in again."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""`M_TRIM_THRESHOLD` and `M_MMAP_THRESHOLD` of glibc's <malloc.h>."""
KEPT = 512 << 20
"""Bytes of freed memory that may lie at the end of the heap before the kernel gets them back."""
LARGE = 64 << 20
"""Blocks of so many bytes and more are the kernel's as soon as they are free."""


@cache
def keep_freed_memory() -> bool:
    """Have glibc keep up to 512 MiB of freed memory; whether it now does (elsewhere nothing is changed).

    As it comes, glibc gives a tensor of some MiB back to the kernel when it is freed, and the next one costs a page
    fault for every 4 KiB: as much again as the arithmetic of an evaluation. Who sets MALLOC_TRIM_THRESHOLD_ or
    MALLOC_MMAP_THRESHOLD_ keeps what they ask for.
    """
    if not sys.platform.startswith("linux") or "glibc" not in _libc():
        return False
    if {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(MMAP_THRESHOLD, LARGE)) and bool(mallopt(TRIM_THRESHOLD, KEPT))


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):
        return ""
