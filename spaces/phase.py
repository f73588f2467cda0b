"""A phase of the roadmap as plain data: what is searched, what is wanted, what must hold."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fusion_models.config import Flat, Recipe, near
from fusion_models.metrics.ranking_metric import NDCG_10, RankingMetric
from fusion_models.modalities import SUSPECT, V1_READS
from fusion_models.quantities import drop_name, known_names, objective_names, of_outputs
from spaces.ranges import Range, applies, ordered
from spaces.thresholds import Thresholds

MOST_OBJECTIVES = 6
"""Beyond it nearly every trial is on the front."""
SHARES = ("attention_max_share", "attention_min_share")
"""Quantities whose limits mean something for a number of modalities alone."""
OWN_NAMES = ("base", "sampled")
"""Names of trials that are the search's own; so are those of an earlier run, `t0007 of phase1`."""
OWN_GATES = ("unfinished", "complete", "trainings")
"""Names of gates and constraints that are the search's own."""
UNBOUNDED = 0.10
"""What counts as a whole step of an objective without a bound, in the quantity's own unit."""


def _share_limit(quantity: str, limit: float | None, even: float) -> float | None:
    return round(limit * even, 3) if limit is not None and quantity in SHARES and even != 1.0 else limit


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One axis of the search, measured on the validation split."""

    name: str
    """A quantity that every training of a search ends with (`quantities.objective_names`)."""
    direction: Literal["maximize", "minimize"]
    bound: float | None = None
    """Beyond it more is not better: values are counted up (or down) to here."""
    reference: float
    """The hypervolume's reference point on this axis: a value worse than any worth having."""

    def with_shares(self, even: float) -> Objective:
        """The same where an even share is `even` times as large: 0.40 of three modalities are 0.30 of four (3 / 4)."""
        return replace(self, bound=_share_limit(self.name, self.bound, even))

    @property
    def corner(self) -> float:
        """Its best value for the hypervolume: the bound; without one 0.10, or 0.10 beyond a reference that is there."""
        if self.bound is not None:
            return self.bound
        if self.direction == "maximize":
            return max(0.0, self.reference) + UNBOUNDED
        return min(UNBOUNDED, self.reference - UNBOUNDED)

    def bounded(self, value: float) -> float:
        """`value` counted up to the bound."""
        if self.bound is None:
            return value
        return min(value, self.bound) if self.direction == "maximize" else max(value, self.bound)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A number that must hold before the roadmap goes on."""

    name: str
    quantity: str
    """A key of `Evaluation.numbers()`, or of the confirmation's table."""
    at_least: float | None = None
    at_most: float | None = None
    steers: bool = True
    """Whether the search takes it as a constraint, where every training of a search ends with the quantity."""
    needs: Literal["", "attention", "images", "test split"] = ""
    """What must exist for the gate to apply as it stands. Without images or the test split it is neutral; without
    attention it reads the shares of the refitted Shapley values."""
    strict: bool = False
    """Whether the threshold itself does not pass."""

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"gate {self.name!r} needs exactly one of at_least and at_most")

    @property
    def threshold(self) -> float:
        """The number on the right side of which the quantity must lie."""
        return self.at_least if self.at_least is not None else self.at_most  # type: ignore[return-value]

    def with_shares(self, even: float) -> Gate:
        """The same where an even share is `even` times as large (see `Objective.with_shares`)."""
        at_least, at_most = (_share_limit(self.quantity, limit, even) for limit in (self.at_least, self.at_most))
        return replace(self, at_least=at_least, at_most=at_most)

    def violation(self, value: float) -> float:
        """How far `value` misses the gate, in the quantity's unit; <= 0 where it passes."""
        return self.threshold - value if self.at_least is not None else value - self.threshold


WANTED_DROP = 0.05
"""What blanking the image must cost, by the roadmap: a share of the nDCG."""
RESUME_GATES = (
    Gate(name="resume: queries", quantity="queries", at_least=500, steers=False, needs="test split"),
    Gate(name="resume: visual masking drop", quantity="visual_masking_drop", at_least=WANTED_DROP),
    Gate(name="resume: V1 correlation", quantity="v1_correlation", at_most=0.90),
    Gate(name="resume: V1 rank correlation", quantity="v1_spearman_mean", at_most=0.90, steers=False),
)
"""The roadmap's technical conditions for resuming V2."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase: the base recipe, what may vary around it, and what is asked of the outcome."""

    name: str
    title: str
    base: Recipe
    """The roadmap's V2 as it stands: always the first trial."""
    known: Mapping[str, Flat]
    """Named points worth asking right after it: changes to the base recipe."""
    ranges: Mapping[str, Range]
    """Key -> range; each stands after those that its condition names."""
    objectives: tuple[Objective, ...]
    gates: tuple[Gate, ...]
    resume_gates: tuple[Gate, ...] = RESUME_GATES
    """Conditions for resuming V2: whatever the phase, its verdict reads them beside its own gates."""
    reference: Flat = field(default_factory=dict)
    """Changes to the base recipe that give the one with which rankers of one modality are trained."""
    ablatable: Mapping[str, Flat] = field(default_factory=dict)
    """Component -> the changes that take it out of a recipe."""
    v1_reads: tuple[str, ...] = V1_READS
    """The modalities of the dataset that V1 reads: a refit without one of them loses V1's score, too."""
    trials: int = 24
    confirm_seeds: int = 5
    """Fresh trainings of every recipe that decides, at the least."""
    suspect: str = SUSPECT
    """The modality that V2 is suspected not to use: refits, probes and archive rules ask what it is worth."""
    metric: RankingMetric = NDCG_10
    """What `ndcg`, and every gain, drop, refit gain and lead that follows from it, is measured by."""
    thresholds: Thresholds = Thresholds()  # noqa: RUF009  (frozen)
    late: bool = False
    """From the roadmap's phase 3 on: V2 is held against its rivals, every modality must earn its place, and all
    archive rules are read."""

    def __post_init__(self) -> None:
        if self.suspect != self.base.suspect:
            raise ValueError(f"{self.name}: the suspect is {self.suspect}, and {self.base.suspect} in the base recipe")
        self._require_v1_reads()
        self._require_names()
        self._require_ranges()
        object.__setattr__(self, "ranges", ordered(self.ranges))
        measured, searched = known_names(self.base.model.modalities), objective_names(self.base.model.modalities)
        names = [objective.name for objective in self.objectives]
        if not 1 <= len(names) <= MOST_OBJECTIVES or len(set(names)) < len(names):
            said = ", ".join(names) or "none"
            raise ValueError(f"{self.name}: a search has 1 to {MOST_OBJECTIVES} different objectives, got {said}")
        for name in names:
            if name not in searched:
                raise ValueError(
                    f"{self.name}: objective {name!r} is not measured of every training; those that can be one: "
                    f"{', '.join(searched)}"
                )
        for gate in (*self.gates, *self.resume_gates):
            if gate.quantity not in measured:
                raise ValueError(
                    f"{self.name}: gate {gate.name!r} asks for {gate.quantity!r}, which is not measured; known are "
                    f"{', '.join(measured)}"
                )

    @property
    def epoch_objectives(self) -> tuple[Objective, ...]:
        """Those that every epoch measures, by which trials are compared before they have ended.

        Of the masking drops an epoch measures the suspect's alone.
        """
        told = of_outputs(self.base.model.modalities)
        others = {drop_name(m) for m in self.base.model.modalities if m != self.suspect}
        return tuple(o for o in self.objectives if told[o.name].epochs and o.name not in others)

    def _require_v1_reads(self) -> None:
        unknown = [name for name in self.v1_reads if name not in self.base.model.of_dataset]
        if unknown:
            has = ", ".join(self.base.model.of_dataset)
            raise ValueError(f"v1_reads names {unknown[0]!r}, which is no modality of the dataset ({has})")

    def _require_names(self) -> None:
        for name in self.known:
            if name in OWN_NAMES or re.fullmatch(r"t\d+ of .+", name):
                raise ValueError(
                    f"{self.name}: the search has a trial {name!r} of its own: name the known point otherwise"
                )
        names = [gate.name for gate in self.gates]
        names += [gate.name for gate in self.resume_gates if gate not in self.gates]
        for name in names:
            if name in OWN_GATES or names.count(name) > 1:
                why = "is the search's own" if name in OWN_GATES else "is that of two gates"
                raise ValueError(f"{self.name}: the gate's name {name!r} {why}: give another one")

    def _require_ranges(self) -> None:
        known = self.base.flat()
        for key, span in self.ranges.items():
            for asked in (key, *span.when):
                if asked not in known:
                    where = "ranges has" if asked == key else f"the range of {key} is asked on"
                    raise ValueError(
                        f"{self.name}: {where} {asked!r}, which is no key; {near(str(asked), list(known))}"
                    )

    @property
    def wanted_drop(self) -> float:
        """The masking drop of the suspect that a gate of this phase asks for; the roadmap's where none does."""
        wanted = [g.at_least for g in (*self.resume_gates, *self.gates) if g.quantity == f"{self.suspect}_masking_drop"]
        return next((threshold for threshold in wanted if threshold is not None), WANTED_DROP)

    def known_recipes(self) -> dict[str, Recipe]:
        """The base recipe and the known points, by name, in the order in which they are asked."""
        return {"base": self.base, **{name: self.base.updated(changes) for name, changes in self.known.items()}}

    def reference_recipe(self) -> Recipe:
        """The recipe that is trained with each modality alone, for comparison."""
        return self.base.updated(self.reference)

    def objective_values(self, numbers: Mapping[str, float]) -> list[float]:
        """The bounded objectives of one evaluation, in the phase's order; NaN where one was not measured."""
        return [o.bounded(float(numbers.get(o.name, float("nan")))) for o in self.objectives]

    @property
    def steering(self) -> tuple[Gate, ...]:
        """The gates that the search can see."""
        searched = objective_names(self.base.model.modalities)
        return tuple(gate for gate in self.gates if gate.steers and gate.quantity in searched)

    def constraints(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Gate -> violation, for the gates that the search can see; <= 0 is feasible.

        A quantity that is missing or NaN counts as violated by the gate's own threshold and 1.
        """
        out: dict[str, float] = {}
        for gate in self.steering:
            value = float(numbers.get(gate.quantity, float("nan")))
            out[gate.name] = gate.violation(value) if value == value else abs(gate.threshold) + 1.0
        return out

    def with_base(self, changes: Mapping[str, Any]) -> Phase:
        """The same phase around another base recipe; a key that is set is no longer searched.

        Of known points that are then the same, the first stays. Where the recipe reads fewer modalities, limits on
        shares keep their distance from an even share.
        """
        base = self.base.updated(changes)
        return self.with_shares_of(base.model.modalities).fixing(changes, base)

    def fixing(self, keys: Collection[str], base: Recipe) -> Phase:
        """The same phase around `base` where these keys are no longer searched.

        Known points lose them, and what is asked on a condition that they no longer meet.
        """
        kept = {key: span for key, span in self.ranges.items() if key not in keys}
        known: dict[str, Flat] = {}
        for name, point in self.known.items():
            left = {k: v for k, v in point.items() if k not in keys}
            for key, span in kept.items():
                gone = {*keys, *(k for k in point if k not in left)}
                if key in left and gone & set(span.when) and not applies(span, left, base.flat()):
                    del left[key]
            if left not in known.values():
                known[name] = left
        reference = {k: v for k, v in self.reference.items() if k not in keys}
        return replace(self, base=base, ranges=kept, known=known, reference=reference)

    def with_shares_of(self, modalities: Sequence[str]) -> Phase:
        """The same phase where limits on shares are for a ranker that reads these modalities."""
        even = len(self.base.model.modalities) / len(modalities)
        return replace(
            self,
            objectives=tuple(objective.with_shares(even) for objective in self.objectives),
            gates=tuple(gate.with_shares(even) for gate in self.gates),
            resume_gates=tuple(gate.with_shares(even) for gate in self.resume_gates),
        )
