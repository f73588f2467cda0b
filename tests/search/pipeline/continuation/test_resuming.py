"""Which options may differ when a run is resumed."""

import pytest

from search.options import RunOptions
from search.pipeline.continuation.resuming import plain_options, require_same_options
from search.run_store.folder import RunFolder, RunFolderError


def test_a_run_that_was_started_with_fresh_can_be_resumed(tmp_path):
    before = {"options": plain_options(RunOptions(phase="phase1", fresh=True))}
    require_same_options(RunFolder(tmp_path), before, RunOptions(phase="phase1", resume=True))


def test_other_options_are_named(tmp_path):
    before = {"options": plain_options(RunOptions(phase="phase1", seed=1))}
    with pytest.raises(RunFolderError, match="seed was 1 and is now 0"):
        require_same_options(RunFolder(tmp_path), before, RunOptions(phase="phase1", resume=True))
