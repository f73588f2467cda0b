"""Waiting on conditions, not on time; and how large the deployment of the tests is."""

import time

PATIENCE = 180.0
"""Seconds that a loaded machine may take."""

QUEUE = 8
"""Requests that may wait for V2."""


def wait_for(condition, what, seconds=PATIENCE):
    """The first true value of `condition()`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds} s in vain for {what}")
