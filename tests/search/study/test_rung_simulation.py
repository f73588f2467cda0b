"""Rungs over whole searches, without training: synthetic curves that cross, and recorded ones."""

import json
from pathlib import Path

import moocore
import numpy as np
import pytest
from event_simulation import Curve, simulate

from search.study.rungs import Rungs, priorities
from spaces import PHASES

EPOCHS = 12
PHASE = PHASES["phase1"]
RECORDED = json.loads(Path(__file__).with_name("recorded_curves.json").read_text())
SIGNS = np.array([-1.0 if o.direction == "maximize" else 1.0 for o in PHASE.objectives])


def crossing_curves(seed, trials, noise=0.0):
    """Four costs that fall to a trial's own end at its own rate, so that curves cross; one gate on the first.

    Ends are strongly correlated, so that some trials are better than others and not only different.
    """
    generator = np.random.default_rng(seed)
    ends = generator.normal(size=(trials, 1)) + 0.3 * generator.normal(size=(trials, 4))
    rates = generator.uniform(0.4, 1.2, size=(trials, 1, 1))
    starts = 3.0 + generator.normal(size=(trials, 1, 4))
    epochs = np.arange(1, EPOCHS + 1)[None, :, None]
    costs = ends[:, None, :] + (starts - ends[:, None, :]) * np.exp(-rates * epochs)
    costs += noise * generator.normal(size=costs.shape)
    seconds = generator.uniform(0.5, 2.0, size=trials)
    return [Curve(f"t{i:04d}", c, c[:, :1] - 0.5, s) for i, (c, s) in enumerate(zip(costs, seconds, strict=True))]


def level_curves(seed, trials):
    """Curves whose order never changes: what is lost on them is lost to deciding early, not to noise."""
    return [
        Curve(c.trial_id, np.tile(c.costs[-1], (EPOCHS, 1)), np.tile(c.violations[-1], (EPOCHS, 1)), c.seconds)
        for c in crossing_curves(seed, trials)
    ]


def top_third_stopped(curves, outcome, share=3):
    """Share of the trials in the best third at the end of full trainings that were stopped."""
    ends = [np.array([getattr(c, name)[-1] for c in curves]) for name in ("costs", "violations")]
    places = priorities(*ends, np.random.default_rng(0).random(len(curves)))
    best = [c.trial_id for c, place in zip(curves, places, strict=True) if place < len(curves) / share]
    return float(np.mean([trial_id in outcome.stopped for trial_id in best]))


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_at_one_rung_few_of_the_true_top_third_are_stopped(workers):
    """One rung, curves that never cross: a right order stops few of the best third, a random one two thirds."""
    lost = [
        top_third_stopped(
            curves := level_curves(seed, 90), simulate(curves, Rungs(EPOCHS, grace_period=4), workers=workers)
        )
        for seed in range(6)
    ]
    assert np.mean(lost) < 0.12


def test_curves_that_cross_cost_some_of_the_top_third_and_save_half_the_epochs():
    lost, spent, best_kept = [], [], []
    for seed in range(6):
        curves = crossing_curves(seed, 90, noise=0.1)
        outcome = simulate(curves, Rungs(EPOCHS, grace_period=4), workers=4)
        lost.append(top_third_stopped(curves, outcome))
        best_kept.append(1 - top_third_stopped(curves, outcome, share=18))
        spent.append(outcome.total_epochs / (EPOCHS * len(curves)))
    assert np.mean(lost) < 0.2
    assert np.mean(best_kept) > 0.85
    assert np.mean(spent) < 0.6


def test_two_rungs_spend_less_than_half_and_every_trial_gets_its_grace():
    curves = crossing_curves(1, 90)
    outcome = simulate(curves, Rungs(EPOCHS, grace_period=2), workers=4)
    assert set(outcome.epochs.values()) == {2, 6, 12}
    assert all(outcome.epochs[trial_id] in (2, 6) for trial_id in outcome.stopped)
    assert outcome.total_epochs < 0.45 * EPOCHS * len(curves)
    at_first = [entry for entry in outcome.entries if entry.level == 2]
    assert len(at_first) == len(curves)
    assert 1 / 3 <= np.mean([entry.kept for entry in at_first]) < 0.5


def test_one_seed_gives_one_history():
    curves = crossing_curves(2, 60, noise=0.2)
    one, same, other = (
        simulate(curves, Rungs(EPOCHS, grace_period=2, brackets=2, seed=seed), workers=3) for seed in (7, 7, 8)
    )
    assert one == same
    assert one != other


def recorded(order):
    """Recorded trainings as curves, in this order."""
    out = []
    for i in order:
        numbers = [dict(zip(RECORDED["keys"], row, strict=True)) for row in RECORDED["trials"][i]["curve"]]
        costs = np.array([PHASE.objective_values(n) for n in numbers]) * SIGNS
        violations = np.array([list(PHASE.constraints(n).values()) for n in numbers])
        out.append(Curve(f"t{i:04d}", costs, violations, 1.0 + 0.1 * (i % 5)))
    return out


def hypervolume(costs):
    reference = SIGNS * [o.reference for o in PHASE.objectives]
    return moocore.hypervolume(costs / np.abs(reference), ref=reference / np.abs(reference))


def test_on_recorded_trainings_the_stopped_search_beats_the_plain_one_at_equal_epochs():
    """24 of the recorded trainings in random order, two at a time: half the epochs, nearly the whole hypervolume."""
    generator = np.random.default_rng(0)
    spent, ours, plain = [], [], []
    for seed in range(40):
        curves = recorded(generator.permutation(len(RECORDED["trials"]))[:24])
        outcome = simulate(curves, Rungs(EPOCHS, grace_period=2, seed=seed), workers=2)
        ends = np.array([c.costs[-1] for c in curves])
        lengths = np.cumsum([len(c.costs) for c in curves])
        affordable = int((lengths <= outcome.total_epochs).sum())
        finished = [c.trial_id not in outcome.stopped for c in curves]
        spent.append(outcome.total_epochs / lengths[-1])
        ours.append(hypervolume(ends[finished]) / hypervolume(ends))
        plain.append(hypervolume(ends[:affordable]) / hypervolume(ends))
    assert np.mean(spent) < 0.5  # 0.43
    assert np.mean(ours) > 0.92  # 0.94
    assert np.mean(ours) > np.mean(plain) + 0.01  # 0.91
