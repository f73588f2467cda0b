"""The short list's rungs: who gets a second and a third training, by the trainings of the rung alone."""

import dataclasses

import pytest
from run_context import run_in
from told_trainer import ToldTrainer

from search.options import RunOptions
from search.pipeline.confirmation import judged_short_list
from search.pipeline.confirmation.finalist import fix_finalist
from search.pipeline.confirmation.judged_short_list import CONFIRM, judge_short_list
from search.run_store.folder import RunFolder
from search.run_store.job import TrialRecord
from spaces import PHASES

PHASE = PHASES["phase3"]
RECIPE = PHASE.base.updated({"train.batch_queries": 16})


def searched(place, **changes):
    """A trial of the front: the better its gain, the smaller its drop."""
    numbers = {
        "ndcg_gain": 0.02 + place / 100,
        "visual_masking_drop": 0.16 - place / 100,
        "attention_max_share": 0.36,
        "attention_min_share": 0.31,
        "v1_correlation": 0.8,
        "ndcg": 0.7,
    }
    fields = {
        "trial_id": f"t{place:04d}", "stage": "search", "name": "sampled", "state": "finished", "state_reason": "",
        "epochs": 5, "seed": 0, "recipe": RECIPE.flat(), "numbers": numbers,
    }  # fmt: skip
    return TrialRecord(**(fields | changes))


SEARCHED = [searched(0, name="base"), *(searched(place) for place in range(1, 8))]


class Searched(ToldTrainer):
    """After a search that found these."""

    found = SEARCHED

    def records(self, stage=None):
        return list(self.found) if stage == "search" else super().records(stage)


@pytest.fixture
def opened(tmp_path, small_data):
    """The run as a command opens it: again and again the same folder."""
    made = run_in(RunFolder(tmp_path), RunOptions(phase="phase3", max_concurrent=1), PHASE, small_data)

    def open_run(**changes):
        trainer = Searched(made.store, PHASE, small_data, made.options, made.console)
        for name, value in changes.items():
            setattr(trainer, name, value)
        return dataclasses.replace(made, trainer=trainer)

    return open_run


def counted(run):
    """Trial -> trainings that the short list gave it."""
    out = {}
    for record in run.trainer.records(CONFIRM):
        out[record.name] = out.get(record.name, 0) + 1
    return out


def test_five_of_the_front_and_the_base_recipe_begin_and_three_go_on(opened):
    run = opened()
    listed = judge_short_list(run, [])
    counts = counted(run)
    assert len(counts) == 6
    assert counts["t0000"] == 3  # the base recipe, wherever it stands
    assert sum(count > 1 for name, count in counts.items() if name != "t0000") == 3
    assert {c.trial_id for c in listed.candidates} == {name for name, count in counts.items() if count > 1}
    assert all(c.left_out == (counts[c.trial_id] < 3) for c in listed.candidates)
    assert "no further training of" in run.console.file.getvalue()


@pytest.mark.parametrize("after", [3, 7, 9, 11])
def test_an_interrupted_short_list_goes_on_as_it_would_have(opened, tmp_path, small_data, after):
    with pytest.raises(KeyboardInterrupt):
        judge_short_list(opened(interrupted_after=after), [])
    resumed = judge_short_list(opened(), [])
    whole = run_in(RunFolder(tmp_path / "whole"), RunOptions(phase="phase3", max_concurrent=1), PHASE, small_data)
    trainer = Searched(whole.store, PHASE, small_data, whole.options, whole.console)
    assert resumed.candidates == judge_short_list(dataclasses.replace(whole, trainer=trainer), []).candidates


def test_a_failed_second_training_changes_no_first_rung(opened):
    """It is decided by first trainings alone, also where later ones are known already."""
    first = judge_short_list(opened(), [])
    again = opened(fails=lambda job: True)  # nothing is trained again
    assert judge_short_list(again, []).candidates == first.candidates
    assert len(again.trainer.records(CONFIRM)) == sum(counted(again).values())


def test_a_newcomer_meets_the_first_training_of_who_has_three(opened, monkeypatch):
    """After `--extend`: an ensemble gains over a single training for nothing."""
    judge_short_list(opened(), [])
    read = []
    monkeypatch.setattr(
        judged_short_list, "next_rung", lambda phase, measured, leads, found, size: read.append(found) or list(found)
    )
    judge_short_list(opened(found=[*SEARCHED, searched(9), searched(10)]), [])
    assert any(c.trial_id == "t0010" for c in read[0])
    assert {len(c.trainings) for c in read[0]} == {1}
    assert {len(c.trainings) for c in read[1]} == {2}


def test_where_the_finalist_stands_nothing_more_is_trained(opened):
    run = opened()
    listed = judge_short_list(run, [])
    fix_finalist(run.folder, listed.candidates[0], [0], of=[])
    later = opened(found=[*SEARCHED, searched(9), searched(10)], interrupted_after=0)
    stood = judge_short_list(later, [])
    assert {c.trial_id for c in stood.candidates} <= {c.trial_id for c in listed.candidates}
    assert {c.trial_id: c.left_out for c in stood.candidates if c.is_base} == {"t0000": False}


@pytest.mark.parametrize("verdict", [1, 2])
def test_the_list_of_a_standing_finalist_outlives_a_front_that_dominates_all_of_it(opened, verdict):
    """A search that went on after the finalist was fixed left the base recipe alone on the list."""
    run = dataclasses.replace(opened(), verdict=verdict, chooses_anew=verdict > 1)
    listed = judge_short_list(run, [])
    names = [c.trial_id for c in listed.candidates]
    fix_finalist(run.folder, listed.candidates[0], [0], of=names, verdict=verdict)
    best = searched(9, numbers=searched(9).numbers | {"visual_masking_drop": 0.4, "ndcg_gain": 0.9})
    later = dataclasses.replace(run, trainer=opened(found=[*SEARCHED, best], interrupted_after=0).trainer)
    stood = judge_short_list(later, [])
    assert list(stood.candidates) == list(listed.candidates)
    assert stood.best == listed.best


def test_a_finalist_of_an_earlier_verdict_does_not_stand_for_one_that_chooses_anew(opened):
    run = opened()
    listed = judge_short_list(run, [])
    fix_finalist(run.folder, listed.candidates[0], [0], of=[listed.candidates[0].trial_id])
    anew = dataclasses.replace(run, verdict=2, chooses_anew=True)
    assert list(judge_short_list(anew, []).candidates) == list(listed.candidates)
