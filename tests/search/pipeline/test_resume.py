"""A driver killed -9 or interrupted at random moments: --resume ends what was begun, and nothing is done twice.

Three kills by default; FUSION_SEARCH_KILLS=20 makes it twenty, FUSION_SEARCH_KILL_SEED draws other moments.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import optuna
import pandas as pd
import psutil
import pytest
from optuna.trial import TrialState
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fusion_models.data import open_dataset
from fusion_models.training import start, train
from search.monitoring.tensorboard import TensorBoardObserver
from search.options import RunOptions
from search.pipeline.baselines import reference_seeds
from search.pipeline.phase import run_phase
from search.run_store.job import Job, Outcome
from search.run_store.journal import open_journal
from search.study.search_stage import SearchStage
from search.study.stages import FixedStage
from spaces import PHASES

SMALL = "planted?queries=160&candidates=8"
TRIALS = 7
TOTALS = {"baselines": 3 * reference_seeds(PHASES["phase3"]), "search": TRIALS}
KILLS = int(os.environ.get("FUSION_SEARCH_KILLS", "3"))
SEED = int(os.environ.get("FUSION_SEARCH_KILL_SEED", "0"))
NAMES = ["base", "balanced", "tuned V1", "multi-task", "small batches", "screened", "low rank", "sampled"]
"""Of a search of eight trials, in the order in which they are asked."""
LINES = 45
"""Of the journal, that all kills together let be written: less than the whole run writes."""
pytestmark = pytest.mark.timeout(1800 + 300 * KILLS)
PATIENCE = 600.0
"""Seconds until a driver or a process that hangs is a failure."""


def _command(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


class Driver:
    """A run in a process and a session of its own, so that whatever it starts can be told from all else.

    Its short epochs are not bundled: there is a checkpoint after each, as there is in long trainings.
    """

    def __init__(self, results, *more):
        self.journal = results / "phase3" / "study.journal"
        self.output = results / "output.txt"
        command = [
            sys.executable, "-m", "search.run", "phase3", "--data", SMALL, "--trials", str(TRIALS), "--epochs", "3",
            "--set", "model.layers=1", "--confirm-seeds", "0", "--results", str(results), *more,
        ]  # fmt: skip
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "FUSION_SEARCH_REPORT_SECONDS": "0"},
            )  # fmt: skip
        self.known = psutil.Process(self.process.pid)

    def lines(self):
        return self.journal.read_bytes().count(b"\n") if self.journal.exists() else 0

    def wait_until(self, reached):
        """Wait until `reached()` or the driver's own end; True for the former."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            if reached():
                return True
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.005)
        return False

    def end(self, send):
        """Call `send`, wait for the driver's end; returns its exit code and the processes that outlived it by 90 s.

        Ray's two agents of a node are not waited for: where the node was killed they try for a minute to tell it so,
        and then go.
        """
        family = self.known.children(recursive=True)
        agents = [process for process in family if "agent" in _command(process).lower()]
        send()
        code = self.process.wait(PATIENCE)
        _, alive = psutil.wait_procs([process for process in family if process not in agents], timeout=90)
        for process in [*alive, *agents]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return code, [_command(process) for process in alive]


def told(path):
    """Trial id -> (state, values, when it ended, when its evaluation was written), for every trial that has ended."""
    storage = open_journal(path / "study.journal")
    found = {}
    for summary in optuna.get_all_study_summaries(storage):
        for trial in optuna.load_study(study_name=summary.study_name, storage=storage).trials:
            if trial.state.is_finished() and "job" in trial.user_attrs:
                name = trial.user_attrs["job"]["trial_id"]
                written = path / "checkpoints" / name / "validation.npz"
                when = written.stat().st_mtime_ns if written.exists() else None
                found[name] = (trial.state, trial.values, trial.datetime_complete, when)
    return found


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run killed at random moments, then interrupted by Ctrl-C, then left to end; and what was seen on the way."""
    results = tmp_path_factory.mktemp("resume")
    path = results / "phase3"
    draw = random.Random(SEED)
    seen = {"path": path, "told": [], "left": [], "kills": 0}

    def driver():
        return Driver(results, *(["--resume"] if (path / "study.journal").exists() else []))

    for _ in range(KILLS):
        run = driver()
        goal = run.lines() + draw.randint(1, max(2, 2 * LINES // KILLS))
        pause = draw.uniform(0.0, 0.4)
        if not run.wait_until(lambda run=run, goal=goal: run.lines() >= goal):
            break
        time.sleep(pause)
        code, left = run.end(run.process.kill)
        seen["kills"] += code == -signal.SIGKILL
        seen["left"] += left
        seen["told"].append(told(path))
    run = driver()
    goal = run.lines() + 3
    if run.wait_until(lambda: run.lines() >= goal):
        seen["interrupt"], left = run.end(lambda: os.killpg(run.process.pid, signal.SIGINT))
        seen["left"] += left
        seen["said"] = run.output.read_text()
        seen["tables"] = pd.read_parquet(path / "trials.parquet")
        seen["told"].append(told(path))
    run = driver()
    seen["exit"] = run.process.wait(PATIENCE)
    seen["output"] = run.output.read_text()
    return seen


def test_the_run_ends_after_kills_and_ctrl_c(interrupted):
    assert interrupted["exit"] == 0, interrupted["output"]
    assert interrupted["kills"] >= min(KILLS, 3)
    run = json.loads((interrupted["path"] / "run.json").read_text())
    assert run["end"] is not None
    assert run["resumed"] >= 1


def test_ctrl_c_exits_130_with_tables_and_says_how_to_go_on(interrupted):
    assert interrupted["interrupt"] == 130, interrupted["said"]
    assert "--resume" in interrupted["said"]
    assert "Traceback" not in interrupted["said"]
    table = interrupted["tables"].set_index("trial_id")
    assert set(table["state"]) <= {"finished", "stopped", "failed", "running"}
    ended = interrupted["told"][-1]
    assert set(table.index[table["state"] != "running"]) == set(ended)


def test_no_process_of_a_dead_driver_stays(interrupted):
    assert interrupted["left"] == []


def test_every_study_has_its_total_and_no_trial_still_runs(interrupted):
    storage = open_journal(interrupted["path"] / "study.journal")
    for name, total in TOTALS.items():
        trials = optuna.load_study(study_name=name, storage=storage).trials
        assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
        assert len(trials) == total
        assert len({t.user_attrs["job"]["trial_id"] for t in trials}) == total


def test_what_had_finished_is_neither_lost_nor_run_again(interrupted):
    last = told(interrupted["path"])
    for before in interrupted["told"]:
        assert {name: last[name] for name in before} == before


def test_every_number_is_that_of_an_uninterrupted_training(interrupted):
    storage = open_journal(interrupted["path"] / "study.journal")
    data = open_dataset(SMALL)
    for study in TOTALS:
        for trial in optuna.load_study(study_name=study, storage=storage).get_trials(states=(TrialState.COMPLETE,)):
            job = Job.from_plain(trial.user_attrs["job"])
            state = start(job.to_recipe(), data, seed=job.seed)
            for _ in train(state, data):
                pass
            assert trial.user_attrs["outcome"]["numbers"]["ndcg"] == pytest.approx(state.best_ndcg, abs=1e-9)


def test_the_tables_hold_every_trial_once(interrupted):
    path = interrupted["path"]
    table = pd.read_parquet(path / "trials.parquet")
    assert len(table) == sum(TOTALS.values())
    assert table["trial_id"].is_unique
    assert "running" not in set(table["state"])
    front = pd.read_csv(path / "pareto.csv")
    assert set(front["trial_id"]) <= set(table.loc[table["state"] == "finished", "trial_id"])
    assert len(front) >= 1
    assert not list((path / "checkpoints").rglob("*training*"))


def test_names_of_the_known_points_survive(interrupted):
    table = pd.read_parquet(interrupted["path"] / "trials.parquet")
    names = list(table.loc[table["stage"] == "search", "name"])
    known = PHASES["phase3"].known_recipes()
    assert sorted(name for name in names if name in known) == sorted(known)


def test_a_planned_training_whose_driver_died_while_asking_for_it_keeps_its_place(tmp_path):
    jobs = [Job(trial_id=f"alone-{i}", name=str(i), recipe={}, seed=i) for i in range(3)]
    stage = FixedStage(open_journal(tmp_path / "j"), "baselines", jobs)
    stage.study.ask()  # RUNNING in the journal, with no job yet: the driver died here
    again = FixedStage(open_journal(tmp_path / "j"), "baselines", jobs)
    assert [again.ask() for _ in range(4)] == [*jobs, None]
    assert len(again.study.trials) == 3


def test_a_known_point_whose_driver_died_while_asking_for_it_keeps_its_name(tmp_path):
    def search():
        return SearchStage(open_journal(tmp_path / "j"), PHASES["phase3"], sampler="tpe", trials=len(NAMES), seed=0)

    stage = search()
    stage.study.ask()
    again = search()
    assert [again.ask().name for _ in range(len(NAMES))] == NAMES
    assert again.ask() is None
    assert len(again.study.trials) == len(NAMES)


def test_a_driver_that_died_while_it_planned_the_known_points_plans_the_rest(tmp_path):
    def search():
        return SearchStage(open_journal(tmp_path / "j"), PHASES["phase3"], sampler="tpe", trials=len(NAMES), seed=0)

    search()
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    planned = [number for number, line in enumerate(lines) if b'"name"' in line]
    (tmp_path / "j").write_bytes(b"".join(lines[: planned[1]]))
    assert [job.name for job in iter(search().ask, None)] == NAMES


def test_the_hypervolume_curve_of_a_resumed_search_goes_on(tmp_path):
    phase = PHASES["phase3"]
    stage = SearchStage(open_journal(tmp_path / "j"), phase, sampler="random", trials=4, seed=0)
    numbers = {"ndcg_gain": 0.02, "visual_masking_drop": 0.06, "attention_max_share": 0.5, "v1_correlation": 0.8}

    def tell_two(known):
        board = TensorBoardObserver(tmp_path / "tensorboard", phase)
        board.take(known)
        for _ in range(2):
            outcome = Outcome(state="finished", reason="", epochs=1, numbers=numbers, seconds=1.0)
            board.on_end(stage, stage.tell(stage.ask(), outcome), {})
        board.close()

    tell_two([])
    tell_two(stage.records())
    curve = EventAccumulator(str(tmp_path / "tensorboard"))
    curve.Reload()
    # files of one second are read in any order
    points = sorted(curve.Scalars("hypervolume"), key=lambda event: event.wall_time)
    assert [event.step for event in points] == [1, 2, 3, 4]


def test_ctrl_c_before_the_first_training_still_writes_the_tables(tmp_path, monkeypatch):
    journal = open_journal(tmp_path / "phase3" / "study.journal")
    stage = SearchStage(journal, PHASES["phase3"], sampler="random", trials=4, seed=0)
    stage.tell(stage.ask(), Outcome(state="failed", reason="lost", epochs=1, numbers={}, seconds=1.0))

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("search.pipeline.phase.ray_session", interrupt)
    options = RunOptions(phase="phase3", data=SMALL, results=str(tmp_path), resume=True)
    with pytest.raises(KeyboardInterrupt):
        run_phase(options, Console(quiet=True))
    table = pd.read_parquet(tmp_path / "phase3" / "trials.parquet")
    assert list(zip(table["trial_id"], table["state"], strict=True)) == [("t0000", "failed")]
