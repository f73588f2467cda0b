"""The command line: its flags are a promise, and what cannot be read says so."""

import subprocess
import sys

import pytest
import tyro

from search.analysis.judged import FEWEST_TRAININGS
from search.options import FIRST_STEP, CommandLine, RunOptions
from spaces import ROADMAP_STEPS

FLAGS = {
    *(
        "phase",
        "phase_file",
        "data",
        "model",
        "model_space",
        "suspect",
        "weights",
        "trials",
        "epochs",
        "time_budget",
        "seed",
        "sampler",
        "scheduler",
        "confirm_seeds",
        "max_seeds",
        "settle",
        "extend",
        "warm_from",
        "track",
        "ablation",
    ),
    *(
        "workers_per_trial",
        "epoch_limit",
        "cpus_per_worker",
        "gpus_per_worker",
        "stack",
        "max_concurrent",
        "address",
        "results",
        "name",
        "resume",
        "fresh",
        "set",
        "facts",
    ),
}


def test_every_recipe_gets_what_a_go_needs():
    assert FIRST_STEP == FEWEST_TRAININGS
    assert RunOptions(phase="phase1", max_seeds=3, confirm_seeds=3).max_seeds == 3


def test_flags_are_the_promised_ones():
    assert set(RunOptions.__dataclass_fields__) == FLAGS
    assert set(CommandLine.__dataclass_fields__) == FLAGS | {"quiet", "json"}  # of what is printed, not of the run


def test_every_flag_has_help():
    text = subprocess.run(
        [sys.executable, "-m", "search.run", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert tyro  # the help is tyro's own
    for flag in set(CommandLine.__dataclass_fields__) - {"phase"}:
        word = flag.replace("_", "-")
        assert f"--{word}" in text or f"--no-{word}" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trials": 0}, "--trials must be at least 1"),
        ({"max_seeds": 3}, "--max-seeds 3 is fewer than the 5 trainings .*: --confirm-seeds 3 gives so few"),
        ({"stack": "0"}, "--stack must be auto or a number of at least 1, got '0'"),
        ({"stack": "four"}, "--stack must be auto or a number of at least 1, got 'four'"),
        ({"stack": "4", "workers_per_trial": 2}, "give one of them"),
        ({"time_budget": "soon"}, "--time-budget must look like"),
        ({"workers_per_trial": 0}, "--workers-per-trial must be at least 1"),
        ({"epoch_limit": "long"}, "--epoch-limit must look like"),
        ({"resume": True, "fresh": True}, "give one of them"),
        ({"address": "ray://head:10001"}, r"cannot run a search.*start the run on the cluster itself"),
        ({"set": ("model.width",)}, "--set takes KEY=VALUE"),
        ({"model": "nowhere:Net"}, "nowhere:Net cannot be imported: no module 'nowhere' on the path"),
        ({"model_space": "own"}, "name it by --model"),
        ({"set": ("model.variant=nowhere:Net",)}, "give a module of your own as --model"),
    ],
)
def test_a_bad_option_says_what_is_wrong(options, said):
    with pytest.raises(ValueError, match=said):
        RunOptions(phase="phase1", **options)


def test_a_phase_file_stands_for_the_phase_that_it_extends_and_for_no_other(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "phase1"\ntrials = 5\n[gates.ndcg_gain]\nat_least = 0.5\n')
    asked = RunOptions(phase="phase1", phase_file=str(path), epochs=2)
    assert (asked.to_phase().trials, asked.to_phase().base.train.epochs) == (5, 2)
    roadmap = RunOptions(phase="roadmap", phase_file=str(path))
    assert [roadmap.to_phase(name).trials == 5 for name in ROADMAP_STEPS] == [True, False, False, False]
    assert [roadmap.phase_file_of(name) for name in ROADMAP_STEPS] == [str(path), None, None, None]
    with pytest.raises(ValueError, match=r"mine.toml extends phase1, and the run is one of phase3: ask for phase1"):
        RunOptions(phase="phase3", phase_file=str(path))
    path.write_text('extends = "phase1"\n[gates.ndcg_gain]\natleast = 0.5\n')
    with pytest.raises(ValueError, match=r"--phase-file .*gates.ndcg_gain.atleast is unknown; did you mean at_least"):
        RunOptions(phase="phase1", phase_file=str(path))


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5m", 90), ("2h", 7200)])
def test_time_budget_reads_units(text, seconds):
    assert RunOptions(phase="phase1", time_budget=text).budget_seconds == seconds


def test_options_stand_before_or_after_the_phase():
    for line in (
        ["phase2", "--trials", "3", "--set", "model.width=16"],
        ["--trials", "3", "--set", "model.width=16", "phase2"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "search.run", *line, "--data", "/nowhere/at/all"], capture_output=True, text=True
        )
        assert done.returncode == 2
        assert "/nowhere/at/all" in done.stderr
