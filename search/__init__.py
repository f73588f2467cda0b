"""Many rankers: study, trials, front, confirmation and decision.

In a program or a notebook: `search.api`. On the command line: `python -m search.run`.
"""

import gc as _gc
import os as _os

if _os.environ.get("FUSION_SEARCH_WORKER"):
    # Only in a process that a run started to train in: importing torch and Ray makes half a million objects that stay,
    # and Python's own threshold of 700 has them looked through again and again, a tenth of the process's start.
    _gc.set_threshold(50_000, 20, 100)
