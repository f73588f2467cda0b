"""What a team's V2 said on one split, as outputs of rankers: the released one, its trainings, its refits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from fusion_models.data import DataError, RankingDataset
from fusion_models.metrics.masking import shapley
from fusion_models.quantities import Lists, Outputs, ensemble, quantity
from search.audit.score_table import ScoreTable
from search.pipeline.confirmation.arms import ArmKey, ArmPlan
from search.reporting.words import AS_GIVEN
from spaces import Phase

Values = npt.NDArray[np.float64]
SAME_TO = 1e-3
"""How far, in deviations of the scores, a model may be from the table's scores of it."""
ROUNDED = 0.005
"""What a share may be off by: it may be rounded to two decimals."""
V2 = "V2"
"""What tables, gates and sentences call the ranker that is audited."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """One split of a V2 that was given."""

    modalities: tuple[str, ...]
    trained: Mapping[ArmKey, Sequence[Outputs]]
    """The V2 with all modalities and its refits, by training; the released one first."""
    kept: Mapping[frozenset[str], Outputs] = field(default_factory=dict)
    """Scores of the released ranker with all but these modalities blanked by zeros, where they were given."""
    released: tuple[str, ...] = ()
    """Which trainings the released ranker averages, by the names of a table that holds several."""
    nothing: Values | None = None
    """`[Q]`: nDCG of a V2 that was trained without any modality."""
    latency: Values | None = None
    """`[requests]` milliseconds, in the order in which they were asked."""
    runtime: str = AS_GIVEN
    """What answered them."""
    interaction: Values | None = None
    """`[Q]`: nDCG beyond the additive projection, measured of a model."""

    @property
    def whole(self) -> ArmKey:
        """The V2 with all of its modalities."""
        return whole_key(self.modalities)

    def artefact(self, members: int) -> Outputs:
        """The ranker that is released."""
        return ensemble(self.trained[self.whole][:members])


def digest(given: Mapping[str, Given | None]) -> str:
    """Of every score that a V2 was given with, by split: one that scores otherwise anywhere is another V2."""
    state = hashlib.sha256()
    for split, one in sorted(given.items()):
        for key, runs in sorted(one.trained.items(), key=lambda arm: str(arm[0])) if one is not None else ():
            for place, run in enumerate(runs):
                state.update(f"{split} {key} {place}".encode())
                state.update(np.ascontiguousarray(run.scores[run.lists.valid]).tobytes())
    return state.hexdigest()


def whole_key(modalities: Sequence[str]) -> ArmKey:
    """The arm of the V2 itself."""
    return ArmKey("finalist", tuple(modalities))


def plan_of(phase: Phase, given: Given) -> ArmPlan:
    """V2 is finalist and base recipe in one. Its recipe is the team's own: the phase's stands in its place."""
    recipes = dict.fromkeys(given.trained, phase.base)
    return ArmPlan(recipes=recipes, whole=given.whole, base=given.whole, suspect=phase.suspect)


def given_scores(
    table: ScoreTable,
    data: RankingDataset,
    lists: Lists,
    modalities: Sequence[str],
    members: int,
    *,
    needed: bool = True,
) -> Given | None:
    """The table on the queries of `lists`; None where it does not score all of them.

    None, as well, where it lacks one of the released ranker's trainings, unless the split is `needed`: then it raises
    DataError.
    """
    places = data.documents(lists.rows)
    whole = whole_key(modalities)
    scored = table.known("v2_score", places)
    if 0 not in scored:
        return None
    if not needed and not set(range(members)) <= set(scored):
        return None
    if len(scored) < members:
        raise DataError(
            f"{len(scored)} trainings have scores, and the released ranker averages {members}.",
            "Lower --members, or add trainings.",
            file=table.source,
            column="training",
        )
    trained: dict[ArmKey, list[Outputs]] = {whole: [_outputs(table, lists, places, modalities, i) for i in scored]}
    nothing = None
    for column in table.columns:
        if column.what != "refit":
            continue
        runs = [_padded(table.values[column.name][i, places], lists) for i in table.known(column.name, places)]
        outputs = [Outputs(lists=lists, scores=scores, modalities=column.modalities) for scores in runs]
        if outputs and column.modalities:
            trained[ArmKey("finalist", column.modalities)] = outputs
        elif outputs:
            nothing = np.mean([o.ndcg for o in outputs], axis=0)
    kept = _kept(table, lists, places, modalities, scored[:members])
    return Given(
        modalities=tuple(modalities),
        trained=trained,
        kept=kept,
        released=tuple(table.trainings[i] for i in scored[:members]) if len(table.trainings) > 1 else (),
        nothing=nothing,
        latency=_latency(table, data, lists, places),
    )


def _outputs(
    table: ScoreTable, lists: Lists, places: npt.NDArray[np.int64], modalities: Sequence[str], training: int
) -> Outputs:
    draws: dict[tuple[str, str], list[Values]] = {}
    for column in table.columns:
        if column.what == "blank" and len(column.modalities) == 1 and training in table.known(column.name, places):
            found = draws.setdefault((column.modalities[0], column.kind), [])
            found.append(_padded(table.values[column.name][training, places], lists))
    shares = [c.name for c in table.columns if c.what == "attention"]
    ssim = [c.name for c in table.columns if c.what == "ssim" and training in table.known(c.name, places)]
    return Outputs(
        lists=lists,
        scores=_padded(table.values["v2_score"][training, places], lists),
        modalities=tuple(modalities),
        blanked={key: np.stack(found) for key, found in draws.items()},
        shares=_shares(table, lists, places, modalities, training) if shares else None,
        ssim=_mean_of_lists(_padded(table.values[ssim[0]][training, places], lists), lists) if ssim else None,
    )


def _shares(
    table: ScoreTable, lists: Lists, places: npt.NDArray[np.int64], modalities: Sequence[str], training: int
) -> Values | None:
    """`[Q, 1, M]`: mean share over each query's documents."""
    names = [f"attention.{m}" for m in modalities]
    if not all(training in table.known(name, places) for name in names):
        return None
    found = np.stack([table.values[name][training, places] for name in names], axis=-1)
    sums = found.sum(axis=-1, keepdims=True)
    off = np.flatnonzero((found < 0).any(axis=-1) | (np.abs(sums[:, 0] - 1.0) > ROUNDED * len(names) + 1e-9))
    if len(off):
        said = ", ".join(f"{value:g}" for value in found[off[0]])
        raise DataError(
            f"{len(off):,} pairs of the split have shares that are negative or do not sum to 1; the first: {said}.",
            "Divide each by their sum.",
            file=table.source,
            column=names[0],
        )
    means = [_mean_of_lists(_padded(column, lists), lists) for column in (found / sums).T]
    return np.stack(means, axis=-1)[:, None, :]


def _kept(
    table: ScoreTable,
    lists: Lists,
    places: npt.NDArray[np.int64],
    modalities: Sequence[str],
    members: Sequence[int],
) -> dict[frozenset[str], Outputs]:
    """What the released ranker says with only some modalities left, the others blanked by zeros."""
    out = {}
    for column in table.columns:
        if column.what != "blank" or column.kind != "zero" or column.draw:
            continue
        known = table.known(column.name, places)
        if all(i in known for i in members):
            runs = [Outputs(lists=lists, scores=_padded(table.values[column.name][i, places], lists)) for i in members]
            out[frozenset(modalities) - frozenset(column.modalities)] = ensemble(runs)
    return out


def _latency(table: ScoreTable, data: RankingDataset, lists: Lists, places: npt.NDArray[np.int64]) -> Values | None:
    """`[Q]`: milliseconds of each query; one number a query, on each of its rows."""
    if "latency_ms" not in table.values or 0 not in table.known("latency_ms", places):
        return None
    padded = _padded(table.values["latency_ms"][0, places], lists)
    slowest = np.where(lists.valid, padded, -np.inf).max(axis=1)
    quickest = np.where(lists.valid, padded, np.inf).min(axis=1)
    off = np.flatnonzero(slowest != quickest)
    if len(off):
        name = data.query_ids[lists.rows[off[0]]]
        raise DataError(
            f"query {name!r} has {quickest[off[0]]:g} and {slowest[off[0]]:g}.",
            "A query is answered once: write its milliseconds on each of its rows.",
            file=table.source,
            column="latency_ms",
        )
    return np.asarray(slowest)


def _padded(flat: Values, lists: Lists) -> Values:
    out = np.zeros(lists.valid.shape)
    out[lists.valid] = flat
    return out


def _mean_of_lists(padded: Values, lists: Lists) -> Values:
    return np.asarray(np.where(lists.valid, padded, 0.0).sum(axis=1) / lists.documents)


def given_model(arrays: Mapping[str, npt.NDArray[Any]], lists: Lists, modalities: Sequence[str], split: str) -> Given:
    """What a model said of `split` (`audit.model.measure`)."""
    own = tuple(modalities)
    blanked = {
        (name.split(".")[2], name.split(".")[3]): np.stack([_padded(draw, lists) for draw in draws])
        for name, draws in arrays.items()
        if name.startswith(f"{split}.blanked.")
    }
    start = f"{split}.kept."
    kept = {
        frozenset(filter(None, name.removeprefix(start).split("+"))): Outputs(lists=lists, scores=_padded(flat, lists))
        for name, flat in arrays.items()
        if name.startswith(start)
    }
    scores, additive = _padded(arrays[f"{split}.scores"], lists), arrays.get(f"{split}.additive")
    return Given(
        modalities=own,
        trained={whole_key(own): [Outputs(lists=lists, scores=scores, modalities=own, blanked=blanked)]},
        kept=kept,
        latency=arrays["latency"],
        runtime=str(arrays["runtime"]),
        interaction=lists.ndcg(scores) - lists.ndcg(_padded(additive, lists)) if additive is not None else None,
    )


def together(model: Given, table: Given, source: str) -> Given:
    """A model that is the table's first training: measured itself, with the table's other trainings, refits and shares.

    Raises DataError where the two score otherwise: then they are not one ranker.
    """
    whole = model.whole
    mine, theirs = model.trained[whole][0], table.trained[whole][0]
    valid = mine.lists.valid
    apart = float(np.abs(mine.scores - theirs.scores)[valid].max())
    if apart > SAME_TO * max(float(theirs.scores[valid].std()), 1e-12):
        raise DataError(
            f"differs from what the model scores by up to {apart:.3g}.",
            "The table's first training must be the model; look at --inputs, or leave one of the two out.",
            file=source,
            column="v2_score",
        )
    shown = replace(mine, shares=theirs.shares, ssim=theirs.ssim)
    trained = {**table.trained, whole: [shown, *table.trained[whole][1:]]}
    return replace(model, trained=trained, released=table.released, nothing=table.nothing)


def masked_values(given: Given, members: int) -> dict[frozenset[str], float]:
    """nDCG of the released ranker with some modalities kept; empty unless every subset was given."""
    subsets = [frozenset(c) for size in range(len(given.modalities)) for c in combinations(given.modalities, size)]
    if any(subset not in given.kept for subset in subsets):
        return {}
    ndcg = quantity("ndcg")
    whole = {frozenset(given.modalities): ndcg.estimate(given.artefact(members))}
    return {subset: ndcg.estimate(given.kept[subset]) for subset in subsets} | whole


def masked_shapley(given: Given, members: int) -> dict[str, float]:
    """Shapley value of each modality in nDCG, the others blanked by zeros; empty unless every subset was given."""
    values = masked_values(given, members)
    return shapley(values) if values else {}


def anchored_interaction(given: Given, members: int) -> Values | None:
    """`[Q]`: nDCG less that of the scores' additive part: what modalities are worth together beyond their sum.

    The additive part is sum_m score(all but m blanked) - (M - 1) score(all blanked), anchored at the blank: with
    scores alone no documents can be crossed, as the empirical projection does. None unless those scores were given.

    References: Hessel and Lee 2020 (EMAP); Kuo et al. 2010 (anchored decompositions).
    """
    alone = [frozenset({m}) for m in given.modalities]
    if members > 1 or any(subset not in given.kept for subset in [*alone, frozenset[str]()]):
        return None
    additive = np.sum([given.kept[s].scores for s in alone], axis=0)
    additive = additive - (len(alone) - 1) * given.kept[frozenset()].scores
    whole = given.artefact(members)
    return whole.ndcg - whole.lists.ndcg(additive)
