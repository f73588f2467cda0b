"""Resources: as many trainings at once as there is room for, and a clear error where there is none."""

import pytest

from search.execution.capacity import concurrency, stack_size, workers_on
from search.execution.ddp.worker_groups import Shape
from search.options import RunOptions


@pytest.mark.usefixtures("shared_ray")
class TestOnTwoProcessors:
    def test_a_training_a_processor(self):
        assert concurrency(RunOptions(phase="phase1")) == 2
        assert concurrency(RunOptions(phase="phase1", cpus_per_worker=2)) == 1

    def test_never_more_than_allowed(self):
        assert concurrency(RunOptions(phase="phase1", max_concurrent=1)) == 1

    def test_a_stack_trains_as_many_as_it_holds_on_each_processor(self):
        assert concurrency(RunOptions(phase="phase1", stack="4")) == 8
        assert concurrency(RunOptions(phase="phase1", stack="4", max_concurrent=3)) == 3
        assert concurrency(RunOptions(phase="phase1", stack="auto")) == 2

    @pytest.mark.parametrize("options", [{"cpus_per_worker": 64}, {"gpus_per_worker": 0.5}], ids=str)
    def test_more_than_there_is_says_so(self, options):
        with pytest.raises(ValueError, match="asks for more than the"):
            concurrency(RunOptions(phase="phase1", **options))


class TestGpus:
    @pytest.mark.parametrize(
        ("stack", "share", "memory", "members"),
        [
            ("auto", 0, 80, 1),
            ("auto", 0.25, 80, 4),
            ("auto", 1, 80, 16),
            ("auto", 2, 80, 16),
            ("auto", 0.25, 8, 2),
            ("auto", 0.1, 2, 1),
            ("32", 0.25, 8, 32),
        ],
    )
    def test_a_stack_has_room_in_its_share_of_the_memory(self, stack, share, memory, members, monkeypatch):
        monkeypatch.setattr("search.execution.capacity.DEFAULT_GPU_BYTES", memory * 1024**3)
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        assert stack_size(RunOptions(phase="phase1", stack=stack, gpus_per_worker=share)) == members

    @pytest.mark.parametrize(
        ("cpus", "gpus", "share", "workers"),
        [
            (16, 1, 0.25, 4),
            (3, 1, 0.25, 3),
            (16, 1, 0.1, 10),
            (16, 1, 0.3, 3),
            (16, 2, 1, 2),
            (16, 0, 0.5, 0),
            (4, 1, 0, 4),
        ],
    )
    def test_workers_share_what_a_node_has(self, cpus, gpus, share, workers):
        node = {"CPU": cpus} | ({"GPU": gpus} if gpus else {})
        assert workers_on(node, RunOptions(phase="phase1", gpus_per_worker=share)) == workers

    @pytest.mark.parametrize(("gpus", "backend"), [(0, "gloo"), (0.5, "gloo"), (1, "cpu:gloo,cuda:nccl")])
    def test_nccl_is_for_whole_gpus(self, gpus, backend):
        assert Shape(workers=2, cpus=1, gpus=gpus).backend == backend
