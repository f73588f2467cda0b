"""Ray on a machine that is too busy for it to come up at once, or where it cannot come up at all."""

import socket

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
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster, "require_room", lambda _: None)
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


FAULTS = {
    "shared memory": (RuntimeError("no shared memory\nof this size"), None, r"RuntimeError: no shared memory\).* logs"),
    "a socket": (OSError(98, "Address already in use"), None, r"OSError: .*Address already in use"),
    "no word": (AssertionError(), None, r"AssertionError: AssertionError\)"),
    "a loopback that is down": (ConnectionError("no GCS"), None, r"ConnectionError: no GCS\)"),
    "no cluster": (ConnectionError("nobody"), "10.0.0.1:6379", r"--address 10.0.0.1:6379: no Ray cluster answers"),
    "another Ray": (RuntimeError("Version mismatch"), "10.0.0.1:6379", r"--address 10.0.0.1:6379: Ray cannot join"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_any_fault_of_ray_is_one_line(monkeypatch, starts, fault):
    raised, address, said = FAULTS[fault]
    starts(0)
    monkeypatch.setattr(cluster, "_require_answer", lambda address: None)

    def broken(**arguments):
        raise raised

    monkeypatch.setattr(ray, "init", broken)
    with pytest.raises(ValueError, match=said) as caught, ray_session(RunOptions(phase="phase1", address=address)):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("{}/" + 99 * "x", r"is too long for Ray's sockets.* at most \d+ bytes: set RAY_TMPDIR .*\d+ bytes shorter"),
        ("/tmp/" + 20 * "ä", r"is too long for Ray's sockets"),
        ("/dev/null/x", r"Ray cannot write to /dev/null/x/ray \(Not a directory\): set RAY_TMPDIR"),
        ("/proc/x", r"Ray cannot write to /proc/x/ray \(No such file or directory\)"),
        ("{}", r"too long|cannot write"),
    ],
)
def test_a_folder_that_ray_cannot_use_is_named_before_ray_starts(tmp_path, monkeypatch, starts, name, folder, said):
    """Ray itself says so late, in a traceback."""
    made = starts(0)
    (tmp_path / "ray").write_text("a file in the way")
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv(name, folder.format(tmp_path))
    with pytest.raises(ValueError, match=said) as caught, ray_session(RunOptions(phase="phase1")):
        pass
    assert "\n" not in str(caught.value)
    assert made == []


def test_the_folder_of_a_cluster_s_ray_is_its_own(monkeypatch, starts):
    made = starts(0)
    monkeypatch.setenv("RAY_TMPDIR", "/dev/null/x")
    monkeypatch.setattr(cluster, "_require_answer", lambda address: None)
    with ray_session(RunOptions(phase="phase1", address="10.0.0.1:6379")):
        assert len(made) == 1


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "localhost:{}", "nobody.invalid:{}", "a:{}99999"])
def test_an_address_at_which_nothing_listens_is_told_at_once(starts, form):
    """Ray tries for minutes, and prints its tries."""
    made = starts(0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = form.format(taken.getsockname()[1])
        with (
            pytest.raises(ValueError, match=r"^--address .*: no Ray cluster answers there"),
            ray_session(RunOptions(phase="phase1", address=address)),
        ):
            pass
        assert made == []
        taken.listen()
        with ray_session(RunOptions(phase="phase1", address=f"127.0.0.1:{taken.getsockname()[1]}")):
            assert len(made) == 1
