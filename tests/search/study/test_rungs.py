"""The order at a rung against a brute-force one on shuffled rows, and the asynchronous rule."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.study.rungs import Entry, Rungs, among_best, priorities, rung_levels, spread, total_violations

COSTS = st.sampled_from([0.0, 1.0, 2.0, 5.0, math.nan])
VIOLATIONS = st.sampled_from([-1.0, 0.0, 0.5, 3.0])


@st.composite
def rungs_and_orders(draw):
    """A rung's rows (few distinct values: ties are common), each with its key, and another order of them."""
    rows = draw(
        st.lists(st.tuples(st.tuples(COSTS, COSTS, COSTS), st.tuples(VIOLATIONS, VIOLATIONS)), min_size=1, max_size=14)
    )
    costs = np.array([row[0] for row in rows])
    violations = np.array([row[1] for row in rows])
    keys = np.random.default_rng(draw(st.integers(0, 99))).random(len(rows))
    return costs, violations, keys, np.array(draw(st.permutations(range(len(rows)))))


def dominates(one, other):
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))


def brute_force_order(costs, violations, keys):
    """Row numbers, best first, by the definition alone: no sorting of more than one thing at a time, no numpy."""
    rows = [(tuple(c), tuple(v), k) for c, v, k in zip(costs.tolist(), violations.tolist(), keys.tolist(), strict=True)]

    def missed(row):
        if all(v <= 0 for v in rows[row][1]):
            return -1
        mine = [max(v, 0) for v in rows[row][1]]
        return sum(max(other[1][g], 0) < mine[g] for other in rows for g in range(len(mine)))

    left = [i for i in range(len(rows)) if not any(math.isnan(c) for c in rows[i][0])]
    order = []
    while left:
        least = min(missed(i) for i in left)
        group = [i for i in left if missed(i) == least]
        while group:
            front = [i for i in group if not any(dominates(rows[j][0], rows[i][0]) for j in group)]
            order += brute_force_net(front, rows)
            group = [i for i in group if i not in front]
        left = [i for i in left if i not in order]
    failed = [i for i in range(len(rows)) if i not in order]
    return order + sorted(failed, key=lambda i: rows[i][2])


def brute_force_net(front, rows):
    """Farthest first on ranks: a rank is how many of the front are below, plus how many are not above."""

    def ranks(i):
        columns = range(len(rows[i][0]))
        return [sum((rows[j][0][o] < rows[i][0][o]) + (rows[j][0][o] <= rows[i][0][o]) for j in front) for o in columns]

    def distance(i, j):
        return sum((a - b) ** 2 for a, b in zip(ranks(i), ranks(j), strict=True))

    chosen = [min(front, key=lambda i: (sum(ranks(i)), rows[i][2]))]
    while len(chosen) < len(front):
        left = [i for i in front if i not in chosen]
        chosen.append(min(left, key=lambda i: (-min(distance(i, j) for j in chosen), rows[i][2])))
    return chosen


@settings(max_examples=200, deadline=None)
@given(rungs_and_orders())
def test_the_order_is_the_brute_force_one_however_the_rows_are_shuffled(case):
    costs, violations, keys, order = case
    expected = np.empty(len(keys), dtype=int)
    expected[brute_force_order(costs, violations, keys)] = np.arange(len(keys))
    assert priorities(costs, violations, keys).tolist() == expected.tolist()
    assert priorities(costs[order], violations[order], keys[order]).tolist() == expected[order].tolist()


@settings(max_examples=100, deadline=None)
@given(rungs_and_orders())
def test_whether_a_row_is_among_the_best_is_its_place_against_the_count(case):
    costs, violations, keys, _ = case
    places = priorities(costs, violations, keys)
    for row in range(len(keys)):
        for count in range(len(keys) + 1):
            assert among_best(row, costs, violations, keys, count) == (places[row] < count)


@settings(max_examples=100, deadline=None)
@given(rungs_and_orders())
def test_neither_an_objectives_scale_nor_a_gates_unit_changes_the_order(case):
    costs, violations, keys, _ = case
    places = priorities(costs, violations, keys)
    scaled = np.column_stack([1e6 * costs[:, 0], np.exp(costs[:, 1]), costs[:, 2] / 1e6 - 3.0])
    units = violations * [1e-4, 1e5]
    assert priorities(scaled, units, keys).tolist() == places.tolist()
    assert priorities(costs[:, ::-1], violations[:, ::-1], keys).tolist() == places.tolist()


@settings(max_examples=100, deadline=None)
@given(rungs_and_orders())
def test_feasible_before_infeasible_before_unmeasured_and_nothing_before_what_dominates_it(case):
    costs, violations, keys, _ = case
    places = priorities(costs, violations, keys)
    assert sorted(places) == list(range(len(places)))
    measured = np.isfinite(costs).all(axis=1)
    feasible = (violations <= 0).all(axis=1)
    missed = np.maximum(violations, 0)
    for i in range(len(places)):
        for j in range(len(places)):
            if measured[i] and not measured[j]:
                assert places[i] < places[j]
            if measured[i] == measured[j] and measured[i]:
                if feasible[i] and not feasible[j]:
                    assert places[i] < places[j]
                if dominates(missed[i], missed[j]):
                    assert places[i] < places[j]
                if (missed[i] == missed[j]).all() and dominates(costs[i], costs[j]):
                    assert places[i] < places[j]


def test_places_are_places_and_not_row_numbers():
    costs = np.array([[3.0], [0.0], [4.0], [1.0], [2.0]])
    places = priorities(costs, np.zeros((5, 0)), np.arange(5.0))
    assert places.tolist() == [3, 0, 4, 1, 2]
    assert np.argsort(costs[:, 0]).tolist() != places.tolist()


def test_equal_in_three_objectives_and_worse_in_one_is_dominated_and_equal_points_tie():
    costs = np.array([[1.0, 1.0, 1.0, 2.0], [1.0, 1.0, 1.0, 1.0], [0.0, 9.0, 9.0, 9.0], [1.0, 1.0, 1.0, 1.0]])
    places = priorities(costs, np.zeros((4, 0)), np.array([0.1, 0.2, 0.3, 0.4]))
    assert places[0] == 3  # though its key is the smallest and it is near a good point
    assert sorted(places[[1, 2, 3]]) == [0, 1, 2]


def test_an_epsilon_net_starts_at_the_compromise_and_goes_to_what_is_farthest():
    costs = np.array([[0.0, 400.0], [1.0, 300.0], [2.0, 200.0], [3.0, 100.0], [3.9, 0.0]])
    assert spread(costs, np.array([0.5, 0.4, 0.1, 0.3, 0.2])).tolist() == [2, 4, 0, 3, 1]
    assert spread(costs, np.array([0.5, 0.4, 0.1, 0.3, 0.2]), 2).tolist() == [2, 4]


def test_a_gate_counts_by_how_many_miss_it_by_less():
    violations = np.array([[-1.0, -1.0], [0.001, -1.0], [500.0, -2.0], [0.001, 0.2]])
    assert total_violations(violations).tolist() == [0, 2, 4, 5]
    assert total_violations(np.zeros((3, 0))).tolist() == [0, 0, 0]


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 20), st.integers(2, 10), st.integers(0, 3))
def test_levels_are_the_powers_below_the_end(max_t, grace, eta, bracket):
    powers = {grace * eta**k for k in range(bracket, 14)}
    levels = rung_levels(max_t, grace_period=grace, reduction_factor=eta, bracket=bracket)
    assert levels == tuple(t for t in range(1, max_t) if t in powers)


@pytest.mark.parametrize("eta", [3, 5, 10])
def test_no_rung_is_lost_to_a_float_logarithm(eta):
    for power in range(1, 12):
        levels = rung_levels(eta**power + 1, grace_period=1, reduction_factor=eta)
        assert levels == tuple(eta**k for k in range(power + 1))
        assert rung_levels(eta**power, grace_period=1, reduction_factor=eta) == levels[:-1]


@pytest.mark.parametrize("wrong", [{"grace_period": 0}, {"reduction_factor": 1}, {"bracket": -1}])
def test_numbers_that_make_no_rungs_are_refused(wrong):
    with pytest.raises(ValueError, match="a rung needs"):
        rung_levels(9, **{"grace_period": 1, "reduction_factor": 3} | wrong)


def test_on_arrival_the_best_third_goes_on():
    rungs = Rungs(9, grace_period=2, seed=4)
    costs = [5.0, 3.0, 4.0, 1.0, 2.0, 0.5, 0.6, 9.0]
    kept = [rungs.report(f"t{i}", 2, [cost], [])[0].kept for i, cost in enumerate(costs)]
    so_far = [sorted(costs[: i + 1]).index(cost) * 3 < i + 1 for i, cost in enumerate(costs)]
    assert kept == so_far == [True, True, False, True, True, True, True, False]


def test_a_trial_is_judged_once_a_rung_and_not_before_it():
    rungs = Rungs(12, grace_period=2)
    assert rungs.report("a", 1, [1.0], [0.0]) == ()
    assert rungs.last("a") is None
    assert [e.level for e in rungs.report("a", 2, [1.0], [0.0])] == [2]
    assert rungs.report("a", 3, [1.0], [0.0]) == ()
    assert [e.level for e in rungs.report("a", 7, [1.0], [0.0])] == [6]
    assert [e.among for e in rungs.report("b", 2, [2.0], [0.0])] == [2]
    assert not rungs.last("b").kept
    assert rungs.report("b", 6, [0.0], [0.0]) == ()  # it was stopped: it never reaches the next rung


def test_a_trial_seen_late_is_judged_at_every_rung_it_has_passed():
    rungs = Rungs(12, grace_period=2)
    assert [(e.level, e.kept) for e in rungs.report("a", 12, [1.0], [])] == [(2, True), (6, True)]
    assert [(e.level, e.kept) for e in rungs.report("b", 12, [2.0], [])] == [(2, False)]


def test_a_failed_trial_stands_last_whatever_came_before_it():
    rungs = Rungs(12, grace_period=2)
    rungs.report("a", 2, [5.0], [4.0])
    assert not rungs.report("failed", 12, [math.nan], [-1.0])[0].kept
    for name, cost in (("b", 6.0), ("c", 7.0)):
        rungs.report(name, 2, [cost], [5.0])
    assert rungs.report("d", 2, [5.5], [4.0])[0].kept  # second of five, one of which failed: two go on


def arrivals(seed, trials):
    """Trials in the order in which they reach rungs, some of them early, some of them failing."""
    generator = np.random.default_rng(seed)
    for i in range(trials):
        for epochs in (2, 6):
            costs = generator.normal(size=3)
            yield f"t{i}", epochs, [math.nan] * 3 if generator.random() < 0.1 else costs.tolist(), [generator.normal()]


@pytest.mark.parametrize("brackets", [1, 2])
def test_an_interrupted_run_decides_as_an_uninterrupted_one(brackets):
    whole = Rungs(20, grace_period=2, brackets=brackets, seed=3)
    expected = [whole.report(*arrival) for arrival in arrivals(0, 60)]
    before = Rungs(20, grace_period=2, brackets=brackets, seed=3)
    kept, got = [], []
    for index, arrival in enumerate(arrivals(0, 60)):
        if index == 47:
            plain = json.loads(json.dumps([entry.plain() for entry in kept], allow_nan=False))
            before = Rungs(20, grace_period=2, brackets=brackets, seed=3)
            before.restore(sorted((Entry.from_plain(p) for p in plain), key=lambda e: (e.trial_id, e.level)))
        got.append(before.report(*arrival))
        kept += got[-1]
    assert [[e.plain() for e in entries] for entries in got] == [[e.plain() for e in entries] for entries in expected]
    assert any(entry.kept for entry in kept)
    assert any(not entry.kept for entry in kept)


def test_decisions_hang_on_the_seed_alone_and_leave_the_global_generator_alone():
    def decisions(seed, world):
        np.random.seed(world)  # noqa: NPY002
        state = np.random.get_state()[1].tolist()  # noqa: NPY002
        rungs = Rungs(12, grace_period=2, brackets=2, seed=seed)
        out = [e.kept for i in range(40) for e in rungs.report(f"t{i}", 2, [1.0, 1.0], [0.0])]
        assert np.random.get_state()[1].tolist() == state  # noqa: NPY002
        return out

    assert decisions(0, 1) == decisions(0, 2)
    assert decisions(0, 1) != decisions(1, 1)


def test_equal_trials_are_kept_about_one_in_three():
    kept = 0
    rungs = Rungs(12, grace_period=2, seed=0)
    for i in range(300):
        kept += rungs.report(f"t{i}", 2, [1.0, 1.0], [0.0])[0].kept
    assert 75 <= kept <= 125


def test_brackets_start_later_and_are_drawn_with_hyperbands_weights():
    rungs = Rungs(100, grace_period=1, brackets=3, seed=0)
    brackets = [rungs.bracket(f"t{i}") for i in range(3000)]
    share = np.bincount(brackets) / 3000
    expected = np.array([9 / 3, 3 / 2, 1.0])
    np.testing.assert_allclose(share, expected / expected.sum(), atol=0.03)
    first = {rungs.report(f"t{i}", 9, [1.0], [])[0].level for i in range(50)}
    assert first == {1, 3, 9}
    with pytest.raises(ValueError, match="at least one bracket"):
        Rungs(100, grace_period=1, brackets=0)
