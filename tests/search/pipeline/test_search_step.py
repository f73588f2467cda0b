"""The search of a run that goes on: what it still trains, and what it says."""

import pandas as pd
import pytest
from run_context import run_in
from told_trainer import ToldTrainer

from fusion_models.data import open_dataset
from search.options import RunOptions
from search.pipeline import search_step
from search.pipeline.baselines import single_modality_jobs
from search.pipeline.confirmation.finalist import fix_finalist
from search.pipeline.confirmation.short_list import Candidate
from search.pipeline.continuation.resuming import require_no_more_trials
from search.pipeline.phase import describe
from search.pipeline.search_step import search
from search.run_store.folder import RunFolder, RunFolderError
from spaces import PHASES

SMALL = "planted?queries=160&candidates=8"
PHASE = PHASES["phase1"]
NUMBERS = {g.quantity: g.threshold for g in (*PHASE.gates, *PHASE.resume_gates) if g.steers} | {
    "ndcg": 0.5, "ndcg_gain": 0.02, "visual_masking_drop": 0.06, "attention_max_share": 0.5, "v1_correlation": 0.9,
    "attention_min_share": 0.2, "parameters": 9,
}  # fmt: skip
FINALIST = Candidate(trial_id="t0001", recipe=PHASE.base.flat(), trainings=("a", "b"))


@pytest.fixture
def go_on(tmp_path, monkeypatch):
    """Opens the run in one folder and searches, each time as a command of its own would."""
    folder, data = RunFolder(tmp_path / "phase1"), open_dataset(SMALL)
    monkeypatch.setattr(search_step, "concurrency", lambda options: 1)
    for after in ("tune_sums", "reference_rankers", "reference_table", "write_csv", "print_validation"):
        monkeypatch.setattr(search_step, after, lambda *given, **more: {})
    monkeypatch.setattr(search_step, "write_importances", lambda *given, **more: None)

    def searched(trials, *, interrupted_after=None):
        options = RunOptions(phase="phase1", data=SMALL, trials=trials, results=str(tmp_path), max_concurrent=1)
        previous = folder.read()
        folder.path.mkdir(exist_ok=True)
        describe(folder, options, PHASE, data, previous)
        run = run_in(folder, options, PHASE, data)
        trainer = ToldTrainer(run.store, PHASE, data, options, run.console)
        trainer.numbers, trainer.interrupted_after = NUMBERS, interrupted_after
        object.__setattr__(run, "trainer", trainer)
        if interrupted_after is None:
            search(run, {})
        else:
            with pytest.raises(KeyboardInterrupt):
                search(run, {})
        trainer.write_tables()
        return run

    return searched


def trials(run):
    table = pd.read_csv(run.folder.path / "trials.csv")
    return table[table["stage"] == "search"].set_index("trial_id")


def test_after_the_finalist_is_fixed_the_search_stays_as_it_was(go_on):
    """A resumed run has a fresh deadline: its new trials could not be chosen, and dropped who they dominated."""
    before = go_on(3)
    fix_finalist(before.folder, FINALIST, [0], of=["t0001", "t0000"])
    after = go_on(6)
    assert len(trials(after)) == 3
    assert "the finalist is fixed, so the search stays at 3 of 6 trials" in after.console.file.getvalue()


def test_fewer_trials_than_were_begun_end_those(go_on):
    singles = len(single_modality_jobs(PHASE, 0))
    go_on(6, interrupted_after=singles + 4)
    run = go_on(2)
    assert set(trials(run)["state"]) == {"finished"}
    assert len(trials(run)) == 5
    assert "-" not in run.console.file.getvalue().partition(" trainings (")[2].partition(")")[0]


def test_a_resumed_run_with_a_finalist_refuses_more_trials(go_on):
    run = go_on(3)
    asked = RunOptions(phase="phase1", trials=48, resume=True)
    require_no_more_trials(run.folder, asked, planned=3)
    fix_finalist(run.folder, FINALIST, [0], of=["t0001", "t0000"])
    require_no_more_trials(run.folder, RunOptions(phase="phase1", trials=3, resume=True), planned=3)
    require_no_more_trials(run.folder, asked, planned=3, verdict=2)
    with pytest.raises(RunFolderError, match=r"has fixed its finalist.*--extend --trials 48"):
        require_no_more_trials(run.folder, asked, planned=3)
