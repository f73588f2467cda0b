"""Resources: as many trainings at once as there is room for, and a clear error where there is none."""

import pytest

from search.options import RunOptions
from search.room import concurrency


@pytest.mark.usefixtures("shared_ray")
class TestOnTwoProcessors:
    def test_a_training_a_processor(self):
        assert concurrency(RunOptions(phase="phase1")) == 2
        assert concurrency(RunOptions(phase="phase1", cpus_per_worker=2)) == 1

    def test_never_more_than_allowed(self):
        assert concurrency(RunOptions(phase="phase1", max_concurrent=1)) == 1

    @pytest.mark.parametrize("options", [{"cpus_per_worker": 64}, {"gpus_per_worker": 0.5}], ids=str)
    def test_more_than_there_is_says_so(self, options):
        with pytest.raises(ValueError, match="asks for more than the"):
            concurrency(RunOptions(phase="phase1", **options))
