"""Many rankers: study, trials, front, confirmation and decision."""

import gc as _gc

_gc.set_threshold(50_000, 20, 100)
"""Importing torch and Ray makes half a million objects that stay: Python's own 700 has them looked through again and
again, a quarter of a process's start."""
