"""Rungs of multi-objective successive halving: when trials are compared, in which order, and which of them go on.

The order at a rung, best first (Schmucker et al. 2021, "Multi-objective Asynchronous Successive Halving",
arXiv:2106.12639, with constraints put first):

1. trials that meet every gate, sorted into fronts of mutually non-dominated points;
2. trials that miss a gate, by how much they miss in all, then into fronts;
3. trials that failed or lack an objective.

Inside a front the order is an epsilon-net: the best compromise, then always the point farthest from those before it.
Misses and distances are counted in ranks, so that no gate or objective decides by its unit. Nothing here knows Ray.

Shapes: n rows (trials), O objectives, all to be minimised, C gates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import moocore
import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def rung_levels(max_t: int, *, grace_period: int, reduction_factor: int, bracket: int = 0) -> tuple[int, ...]:
    """Epochs at which trials of a bracket are compared: grace_period * reduction_factor^k below `max_t`, k >= bracket.

    Counted in whole numbers: a float logarithm loses the last rung of 3^5. Raises ValueError for numbers that make no
    rungs.
    """
    if grace_period < 1 or reduction_factor < 2 or bracket < 0:
        raise ValueError(
            "a rung needs grace_period >= 1, reduction_factor >= 2 and bracket >= 0, "
            f"got {grace_period}, {reduction_factor} and {bracket}"
        )
    levels = []
    level = grace_period * reduction_factor**bracket
    while level < max_t:
        levels.append(level)
        level *= reduction_factor
    return tuple(levels)


def total_violations(violations: Floats) -> Ints:
    """`[n, C]` to `[n]`: 0 where every gate holds, else the sum over gates of how many rows miss it by less.

    Whatever misses one gate by more, and no gate by less, has the larger total.
    """
    missed = np.maximum(np.where(np.isnan(violations), np.inf, violations), 0.0)
    if missed.size == 0:
        return np.zeros(len(missed), dtype=np.int64)
    smaller = np.asarray(rankdata(missed, method="min", axis=0), dtype=np.int64) - 1
    totals = np.asarray(smaller.sum(axis=1), dtype=np.int64)
    infeasible = (missed > 0.0).any(axis=1)
    return np.where(infeasible, totals + 1, 0)  # + 1: a miss that all rows share is still a miss


def spread(costs: Floats, keys: Floats, count: int | None = None) -> Ints:
    """The first `count` rows of one front in epsilon-net order; keys `[n]`, all different, break ties.

    Costs are replaced by twice their average rank, which are whole numbers: distances are exact, and the order of the
    rows and the scale of an objective change nothing.
    """
    by_key = np.argsort(keys)
    ranks = np.asarray(2.0 * rankdata(costs[by_key], method="average", axis=0), dtype=np.int64)
    chosen = [int(np.argmin(ranks.sum(axis=1)))]
    nearest = ((ranks - ranks[chosen[0]]) ** 2).sum(axis=1)
    nearest[chosen[0]] = -1
    for _ in range(1, min(len(ranks), len(ranks) if count is None else count)):
        chosen.append(int(np.argmax(nearest)))
        np.minimum(nearest, ((ranks - ranks[chosen[-1]]) ** 2).sum(axis=1), out=nearest)
        nearest[chosen[-1]] = -1
    return np.asarray(by_key[chosen], dtype=np.int64)


def priorities(costs: Floats, violations: Floats, keys: Floats) -> Ints:
    """The place of every row `[n]`, 0 the best; costs `[n, O]`, violations `[n, C]` (<= 0 holds), keys `[n]`."""
    places = np.empty(len(costs), dtype=np.int64)
    measured = _measured(costs)
    totals = total_violations(violations)
    place = 0
    for total in np.unique(totals[measured]):
        group = np.flatnonzero(measured & (totals == total))
        fronts = moocore.pareto_rank(costs[group])
        for front in np.unique(fronts):
            rows = group[fronts == front]
            ordered = rows[spread(costs[rows], keys[rows])]
            places[ordered] = np.arange(place, place + len(rows))
            place += len(rows)
    rest = np.flatnonzero(~measured)
    places[rest[np.argsort(keys[rest])]] = np.arange(place, len(costs))
    return places


def among_best(row: int, costs: Floats, violations: Floats, keys: Floats, count: int) -> bool:
    """`priorities(...)[row] < count`, sorting no more than the answer needs."""
    measured = _measured(costs)
    if not measured[row]:
        return bool(measured.sum() + (keys[~measured] < keys[row]).sum() < count)
    totals = total_violations(violations)
    count -= int((measured & (totals < totals[row])).sum())
    group = np.flatnonzero(measured & (totals == totals[row]))
    if count <= 0 or count >= len(group):
        return count > 0
    if int(_dominators(costs[group], costs[row]).sum()) >= count:
        return False
    fronts = moocore.pareto_rank(costs[group])
    own = int(fronts[np.flatnonzero(group == row)[0]])
    count -= int((fronts < own).sum())
    rows = group[fronts == own]
    if count <= 0 or count >= len(rows):
        return count > 0
    return row in rows[spread(costs[rows], keys[rows], count)]


def _measured(costs: Floats) -> Bools:
    return np.asarray(np.isfinite(costs).all(axis=1))


def _dominators(costs: Floats, point: Floats) -> Bools:
    """Rows no worse than `point` in any objective and better in one."""
    return np.asarray((costs <= point).all(axis=1) & (costs < point).any(axis=1))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A trial at a rung: what it had reached there, and what was decided."""

    trial_id: str
    level: int
    """Epochs."""
    costs: tuple[float, ...]
    """To be minimised; NaN for a trial that failed on its way here."""
    violations: tuple[float, ...]
    """Gates; <= 0 holds."""
    kept: bool
    among: int
    """Trials that it was compared with, this one included."""
    number: int = -1
    """Of the trial; -1: everybody is compared with it."""

    def plain(self) -> dict[str, Any]:
        """As JSON takes it: NaN and infinity are None."""
        costs = [cost if math.isfinite(cost) else None for cost in self.costs]
        return vars(self) | {"costs": costs, "violations": list(self.violations)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Entry:
        """The inverse of `plain`."""
        costs = tuple(math.nan if cost is None else cost for cost in plain["costs"])
        return cls(**plain | {"costs": costs, "violations": tuple(plain["violations"])})


class Rungs:
    """Every rung of every bracket, and the asynchronous rule: on arrival, the best 1 in `reduction_factor` go on.

    A trial is judged when it reaches a rung, against those that have been there before it, and never again. A trial
    that ends by itself stands at the rungs above too, as far as it would have come. Where trials up to a number are
    compared alone, all of which have ended, what is decided does not depend on who came first.
    """

    def __init__(
        self, max_t: int, *, grace_period: int, reduction_factor: int = 3, brackets: int = 1, seed: int = 0
    ) -> None:
        if brackets < 1:
            raise ValueError(f"successive halving needs at least one bracket, got {brackets}")
        self.max_t = max_t
        self.reduction_factor = reduction_factor
        self._seed = seed
        self._brackets = [
            rung_levels(max_t, grace_period=grace_period, reduction_factor=reduction_factor, bracket=bracket)
            for bracket in range(brackets)
        ]
        self._rungs = {(b, level): _Rung() for b, levels in enumerate(self._brackets) for level in levels}
        self._last: dict[str, Entry] = {}

    @property
    def levels(self) -> tuple[int, ...]:
        """Epochs at which trials are compared, over all brackets."""
        return tuple(sorted({level for levels in self._brackets for level in levels}))

    def bracket(self, trial_id: str) -> int:
        """Drawn with the weights of Hyperband (Li et al. 2018): as many epochs spent in each bracket."""
        depth = len(self._brackets)
        weights = np.array([self.reduction_factor ** (depth - 1 - b) / (depth - b) for b in range(depth)])
        return int(self._generator(trial_id).choice(depth, p=weights / weights.sum()))

    def _generator(self, trial_id: str) -> np.random.Generator:
        """A trial's own: what is drawn for it does not depend on who came before it."""
        return np.random.default_rng([self._seed, *trial_id.encode()])

    def report(
        self,
        trial_id: str,
        epochs: int,
        costs: Sequence[float],
        violations: Sequence[float],
        *,
        number: int = -1,
        seen: int | None = None,
    ) -> tuple[Entry, ...]:
        """Judge a trial at the rungs it has reached since it was last seen; returns those judgements.

        `epochs` = `max_t` for one that has ended by itself, and NaN costs for one that has failed. `seen`: the highest
        number of the trials that it is compared with; None: all that have been there.
        """
        judged: list[Entry] = []
        bracket = self.bracket(trial_id)
        for level in self._brackets[bracket]:
            last = self._last.get(trial_id)
            if level > epochs or (last is not None and not last.kept):
                break
            if last is not None and level <= last.level:
                continue
            rung = self._rungs[bracket, level]
            rung.put(self._key(trial_id), costs, violations, number)
            kept, among = rung.judge(self.reduction_factor, seen)
            entry = Entry(
                trial_id=trial_id,
                level=level,
                costs=tuple(costs),
                violations=tuple(violations),
                kept=kept,
                among=among,
                number=number,
            )
            self._last[trial_id] = entry
            judged.append(entry)
        return tuple(judged)

    def last(self, trial_id: str) -> Entry | None:
        """The last judgement of a trial; None before its first rung."""
        return self._last.get(trial_id)

    def restore(self, entries: Iterable[Entry]) -> None:
        """Put back what was recorded before an interruption, a trial's rungs in order; nothing is judged anew."""
        for entry in entries:
            rung = self._rungs.get((self.bracket(entry.trial_id), entry.level))
            if rung is not None:
                rung.put(self._key(entry.trial_id), entry.costs, entry.violations, entry.number)
                self._last[entry.trial_id] = entry

    def _key(self, trial_id: str) -> float:
        generator = self._generator(trial_id)
        generator.random()  # the bracket's draw
        return float(generator.random())


class _Rung:
    """Rows recorded at one level of one bracket."""

    def __init__(self) -> None:
        self._rows = 0
        self._room: tuple[Floats, Floats, Floats, Floats] | None = None

    def put(self, key: float, costs: Sequence[float], violations: Sequence[float], number: int) -> None:
        """Record a row."""
        n = self._rows
        if self._room is None:
            self._room = np.empty(8), np.empty((8, len(costs))), np.empty((8, len(violations))), np.empty(8)
        if n == len(self._room[0]):  # twice the room, so that n rows are copied a few times, not n times
            keys, rows, gates, numbers = (np.concatenate([array, np.empty_like(array)]) for array in self._room)
            self._room = keys, rows, gates, numbers
        keys, rows, gates, numbers = self._room
        keys[n], rows[n], gates[n], numbers[n] = key, costs, violations, number
        self._rows += 1

    def judge(self, reduction_factor: int, seen: int | None) -> tuple[bool, int]:
        """Whether the last row is among the best 1 in `reduction_factor` of those numbered up to `seen` and itself.

        And how many those are.
        """
        assert self._room is not None
        keys, costs, violations, numbers = (array[: self._rows] for array in self._room)
        if seen is not None:
            compared = numbers <= seen
            compared[-1] = True
            keys, costs, violations = keys[compared], costs[compared], violations[compared]
        count = -(-len(keys) // reduction_factor)
        return among_best(len(keys) - 1, costs, violations, keys, count), len(keys)
