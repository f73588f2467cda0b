"""A machine is taken away while a training of one worker runs on it: the training goes on elsewhere from there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from lost_machine import BASE

from fusion_models.training import start, train
from search.run_store.job import Job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def story(small_data, tmp_path_factory):
    """What a run on a head and two machines said, one of which was killed -9 after two epochs of a training."""
    program = Path(__file__).parent / "lost_machine.py"
    command = [sys.executable, str(program), str(tmp_path_factory.mktemp("lost")), small_data.source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith("SAID ")]
    assert said, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(said[0].removeprefix("SAID "))


def robbed(story):
    """The training whose machine went, and its reports."""
    (name,) = [name for name, seen in story["reports"].items() if seen[1][1] == story["victim"] and len(seen) > 2]
    return name, story["reports"][name]


def test_every_training_finishes_and_the_loss_of_the_machine_is_a_preemption_and_no_failure(story):
    assert {name: (r["state"], r["epochs"], r["reason"]) for name, r in story["records"].items()} == {
        f"job-{i}": ("finished", 6, "") for i in range(4)
    }
    name, _ = robbed(story)
    counted = {other: record["numbers"].get("preemptions", 0.0) for other, record in story["records"].items()}
    assert counted == {f"job-{i}": float(f"job-{i}" == name) for i in range(4)}


def test_the_training_goes_on_on_another_machine_from_its_checkpoint(story):
    _, reports = robbed(story)
    assert [epoch for epoch, _ in reports] == [1, 2, 3, 4, 5, 6]  # none trained twice, none left out
    assert {machine for _, machine in reports[:2]} == {story["victim"]}
    assert story["victim"] not in {machine for _, machine in reports[2:]}


def test_its_numbers_are_those_of_a_training_that_was_left_in_peace(story, small_data):
    name, _ = robbed(story)
    job = Job(trial_id=name, name="job", recipe=BASE.flat(), seed=int(name.removeprefix("job-")))
    state = start(job.to_recipe(), small_data, seed=job.seed)
    for _ in train(state, small_data):
        pass
    assert story["records"][name]["numbers"]["ndcg"] == pytest.approx(state.best_ndcg, abs=1e-12)
