"""What every process of a run loads before it trains: nothing that training does not need."""

import subprocess
import sys

HEAVY = (
    "lightgbm",
    "matplotlib",
    "moocore",
    "optuna",
    "plotly",
    "scipy.stats",
    "sklearn",
    "statsmodels",
    "torch._dynamo",
)
"""Each takes a quarter of a second or more, in each of a run's processes and in each that takes a dead one's place."""


def test_a_worker_loads_nothing_heavy_that_it_may_never_use():
    code = f"import sys, search.execution.trial; print([name for name in {HEAVY} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
