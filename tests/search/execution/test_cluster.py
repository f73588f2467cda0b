"""Ray on a machine that is too busy for it to come up at once."""

import pytest
import ray

from search.execution import cluster
from search.execution.cluster import STARTS, ray_session
from search.options import RunOptions

LATE = "The current node timed out during startup. This could happen because some of the raylet failed to startup"


@pytest.fixture
def starts(monkeypatch):
    """How often Ray was started; nothing is."""
    made = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(cluster, "close_groups", lambda: None)

    def late(times):
        def init(**arguments):
            made.append(arguments)
            if len(made) <= times:
                raise Exception(LATE)

        monkeypatch.setattr(ray, "init", init)
        return made

    return late


def test_a_late_start_is_tried_again(starts):
    made = starts(STARTS - 1)
    with ray_session(RunOptions(phase="phase1")):
        assert len(made) == STARTS


def test_a_machine_on_which_ray_does_not_come_up_is_told_in_one_line(starts):
    made = starts(99)
    with (
        pytest.raises(ValueError, match="did not come up on this machine in 3 tries"),
        ray_session(RunOptions(phase="phase1")),
    ):
        pass
    assert len(made) == STARTS


def test_any_other_fault_of_ray_is_its_own(monkeypatch, starts):
    starts(0)

    def broken(**arguments):
        raise RuntimeError("no shared memory")

    monkeypatch.setattr(ray, "init", broken)
    with pytest.raises(RuntimeError, match="no shared memory"), ray_session(RunOptions(phase="phase1")):
        pass
