"""A stack's size is measured as a run begins, and a run that goes on takes it from run.json."""

import pytest
from run_context import run_in

from search.execution import capacity
from search.execution.capacity import keep_stack_size, knows_stack_size, stack_size
from search.options import RunOptions
from search.pipeline import trainer as trainer_module
from search.pipeline.phase import describe
from search.run_store.folder import RunFolder
from spaces import PHASES


@pytest.fixture
def measured(monkeypatch):
    """Measurements so far; each finds another size than the one before, since they are timings."""
    sizes = []

    def measure(options, ticket, recipe):
        if options.stack != "auto" or knows_stack_size(options):
            return ""
        sizes.append(4 * (len(sizes) + 1))
        keep_stack_size(options, sizes[-1])
        return "measured"

    monkeypatch.setattr(trainer_module, "measure_stack_size", measure)
    monkeypatch.setattr(capacity, "_measured", {})
    return sizes


def begun(folder, data, **changes):
    """The size that a run goes by, in a process of its own."""
    capacity._measured.clear()
    options = RunOptions(phase="phase1", gpus_per_worker=1, **changes)
    describe(folder, options, PHASES["phase1"], data, folder.read())
    run_in(folder, options, PHASES["phase1"], data).trainer._size_stacks(None)
    return stack_size(options)


def test_a_run_that_is_resumed_keeps_its_size_and_one_that_starts_over_measures(measured, tmp_path, small_data):
    folder = RunFolder(tmp_path)
    assert [begun(folder, small_data), *(begun(folder, small_data, resume=True) for _ in range(2))] == [4, 4, 4]
    assert folder.read()["stack_size"] == 4
    assert begun(folder, small_data, resume=True, stack="2") == 2
    assert begun(folder, small_data, fresh=True) == 8
    assert measured == [4, 8]


def test_a_size_that_was_given_is_not_kept_as_measured(measured, tmp_path, small_data):
    assert begun(RunFolder(tmp_path), small_data, stack="2") == 2
    assert "stack_size" not in RunFolder(tmp_path).read()
    assert measured == []
