"""Probes for what leaks without equalling any one column: the label, or V1's score, spread over a few columns.

For each modality, cross-fitted over training queries: a linear readout and trees, of all its columns and of the few
that tell most. A readout of the label is held against what rankers reach without that modality, and against V1: an
honest feature adds to what the others know, a leak leaves them far behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.integrity.check import Check, CheckStatus, unmeasured
from fusion_models.metrics import Interval, average_ranks, centred_correlation, ndcg, paired_bootstrap, standardise
from fusion_models.modalities import V1_READS
from fusion_models.probes.columns import centred, cosines

QUERIES, DOCUMENTS = 600, 40_000
"""Training queries and documents that are read at the most."""
FEW = 4
"""Columns among which a leak is looked for, chosen one after the other: one-hot grades need so many."""
ROUNDS = 60
RIDGES = (1e-4, 1e-1)
"""Penalties of the linear readouts, per document: a leak wants none, many columns of noise want one."""
FEW_LEAK, FEW_DOUBTFUL = 0.6, 0.3
"""Share of what the other rankers miss (1 - their nDCG) that a few columns close alone: a leak; a warning."""
WHOLE_LEAK, WHOLE_DOUBTFUL = 0.9, 0.6
"""The same for all columns of a modality, which may be the best of all by right."""
V1_OWN, V1_ELSEWHERE = (0.9995, 0.99), (0.98, 0.95)
"""Correlation of a few columns' readout with V1's score, centred within queries, by value or by rank, from which it is
V1 itself, and from which it is a warning: in a modality that V1 reads, where much of it may stand by right, and
elsewhere. Of planted data, whose V1 reads the text, four text columns give 0.98 of it."""

PAIR, MEETING = "pair features", "cosines with the query"

Floats = npt.NDArray[np.float32]


def leak_probe_checks(
    data: RankingDataset, generator: np.random.Generator, *, v1_modalities: Sequence[str] = V1_READS
) -> list[Check]:
    """Two checks: whether a few columns, or a modality, hold the label; and whether a few columns hold V1's score.

    Reads training queries alone. Not measured with fewer than 20 of them that have a relevant item.
    """
    lists = _Lists(data, generator)
    names = ("the label in a modality", "V1's score in a few columns")
    if lists.telling < 20:
        return [unmeasured(name, "not measured", f"{lists.telling} telling training queries") for name in names]
    readouts = {name: lists.readouts(name) for name in lists.blocks}
    return [_label_check(names[0], lists, readouts, generator), _v1_check(names[1], readouts, v1_modalities)]


def order_check(data: RankingDataset, generator: np.random.Generator) -> Check:
    """Whether the order of a list, of its items' ids, or of their rows tells the label better than V1 does.

    No ranker reads it, so it fails nothing; but such tables were written by somebody who knew the labels. A warning.
    """
    name = "label in the order of the tables"
    lists = _Lists(data, generator)
    if lists.telling < 20:
        return unmeasured(name, "not measured", f"{lists.telling} telling training queries")
    batch = lists.batch
    place = torch.arange(batch.labels.shape[1]).expand_as(batch.labels).double()
    sorted_ids = sorted(range(len(data.item_ids)), key=lambda row: _natural(data.item_ids[row]))
    by_id = np.argsort(np.array(sorted_ids))
    orders = {
        "place in the list": place,
        "row of the item": batch.item.double(),
        "order of the item ids": torch.from_numpy(by_id)[batch.item.clamp(min=0)].double(),
    }
    v1 = lists.ndcg(batch.v1)
    worst, found = "", Interval(nan, nan, nan)
    for what, values in orders.items():
        for scores in (values, -values):
            gain = paired_bootstrap(lists.ndcg(scores) - v1, generator=generator)
            if not worst or gain.mean > found.mean:
                worst, found = what, gain
    chance = lists.ndcg(torch.zeros_like(batch.labels))
    status: CheckStatus = "warning" if found.low > 0 and float((v1 + found.mean).mean()) > chance.mean() else "pass"
    said = f"nDCG by {worst} less V1's, {lists.telling} training queries"
    return Check(
        name=name,
        value=found.mean,
        ci_low=found.low,
        ci_high=found.high,
        threshold=0.0,
        direction="at most",
        status=status,
        detail=said,
    )


def _natural(item: object) -> tuple[int, str]:
    """Numbers inside ids count as numbers: shorter first."""
    text = str(item)
    return len(text), text


@dataclass(frozen=True)
class _Readouts:
    """Cross-fitted readouts `[N]` of one block of columns, best of linear and trees; and the few columns' names."""

    label_few: npt.NDArray[np.float64]
    label_whole: npt.NDArray[np.float64]
    label_columns: tuple[int, ...]
    v1: float
    v1_columns: tuple[int, ...]


class _Lists:
    """A sample of training queries, their columns by block, centred within queries, and two folds of queries."""

    def __init__(self, data: RankingDataset, generator: np.random.Generator) -> None:
        rows = generator.permutation(data.rows("train"))[:QUERIES]
        rows = np.sort(rows[: max(2, int(np.searchsorted(np.cumsum(data.candidates[rows]), DOCUMENTS, side="right")))])
        self.batch: Batch = data.gather(rows)
        self._query = self.batch.valid.nonzero()[:, 0]
        self._fold = (generator.permutation(len(rows)) % 2)[self._query.numpy()]
        self._scored = ((self.batch.labels > 0) & self.batch.valid).any(1)
        raw = {m: self.batch.features[m] for m in data.schema.modalities}
        width = data.schema.pair
        raw |= {PAIR: self.batch.context[..., -width:]} if width else {}
        met = cosines(self.batch, data.schema.modalities)
        raw |= {MEETING: met} if met.shape[-1] else {}
        self._raw = {name: values[self.batch.valid] for name, values in raw.items()}
        self.blocks = tuple(name for name, values in raw.items() if values.shape[-1])
        self._label = self._within(self.batch.labels)
        self._v1 = self._within(self.batch.v1)
        ranks = average_ranks(self.batch.v1, self.batch.valid)
        self._v1_rank = self._within(-ranks)

    @property
    def telling(self) -> int:
        """Queries with a relevant item."""
        return int(self._scored.sum())

    def ndcg(self, scores: Tensor) -> npt.NDArray[np.float64]:
        """`[telling]` nDCG of scores `[Q, L]`."""
        mine = self._scored
        return ndcg(scores[mine].double(), self.batch.labels[mine], self.batch.valid[mine]).numpy()

    def padded(self, values: npt.NDArray[np.float64]) -> Tensor:
        """`[N]` -> `[Q, L]`."""
        out = torch.zeros(self.batch.labels.shape, dtype=torch.float64)
        out[self.batch.valid] = torch.from_numpy(values)
        return out

    def _within(self, values: Tensor) -> npt.NDArray[np.float64]:
        return standardise(values.double(), self.batch.valid)[self.batch.valid].numpy()

    def _columns(self, names: Sequence[str]) -> tuple[Floats, Floats]:
        """Raw and centred columns `[N, D]` of some blocks, at unit deviation."""
        raw = torch.cat([self._raw[name] for name in names], dim=1).double()
        inner = centred(raw, self._query)
        deviation = inner.std(0)
        return raw.float().numpy(), (inner / torch.where(deviation > 1e-9, deviation, 1.0)).float().numpy()

    def readouts(self, name: str) -> _Readouts:
        """Of one block."""
        raw, inner = self._columns([name])
        few = self._few(inner, self._label)
        best_few = self._best([*self._linear(inner[:, few], self._label), self._trees(raw, inner, few, self._label)])
        best_whole = self._best([*self._linear(inner, self._label), self._trees(raw, inner, None, self._label)])
        correlations = []
        for target in (self._v1, self._v1_rank):
            told = self._few(inner, target)
            found = [*self._linear(inner[:, told], target), self._trees(raw, inner, told, target)]
            correlations += [(self._correlation(f), tuple(told)) for f in found]
        v1, columns = max(correlations)
        return _Readouts(best_few, best_whole, tuple(few), v1, columns)

    def reached_without(self, name: str) -> npt.NDArray[np.float64]:
        """`[telling]` nDCG of the best of V1, and a linear readout and trees of all other blocks."""
        found = [self.ndcg(self.batch.v1)]
        others = [block for block in self.blocks if block not in (name, MEETING)]
        if others:
            raw, inner = self._columns(others)
            readouts = (*self._linear(inner, self._label), self._trees(raw, inner, None, self._label))
            found += [self.ndcg(self.padded(readout)) for readout in readouts]
        return max(found, key=lambda values: float(values.mean()))

    def _best(self, readouts: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        return max(readouts, key=lambda values: float(self.ndcg(self.padded(values)).mean()))

    def _correlation(self, readout: npt.NDArray[np.float64]) -> float:
        """With V1's score, or with its order, whichever is closer."""
        scores, valid = self.padded(readout), self.batch.valid
        ranks = [average_ranks(x, valid).double() for x in (scores, self.batch.v1.double())]
        by_value = centred_correlation(scores, self.batch.v1.double(), valid)
        return max(by_value, centred_correlation(ranks[0], ranks[1], valid))

    def _few(self, inner: Floats, target: npt.NDArray[np.float64]) -> list[int]:
        """The columns that tell most of the target together: orthogonal matching pursuit."""
        chosen: list[int] = []
        residual = target
        norms = np.maximum(np.linalg.norm(inner, axis=0), 1e-9)
        for _ in range(min(FEW, inner.shape[1])):
            told = np.abs(residual @ inner) / norms
            told[chosen] = -1.0
            chosen.append(int(told.argmax()))
            x = inner[:, chosen].astype(np.float64)
            residual = target - x @ np.linalg.lstsq(x, target, rcond=None)[0]
        return chosen

    def _linear(self, inner: Floats, target: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
        """Cross-fitted ridge readouts, one a penalty."""
        out = [np.zeros(len(target)) for _ in RIDGES]
        for fold in (0, 1):
            fit, read = self._fold != fold, self._fold == fold
            x = inner[fit].astype(np.float64)
            gram, moment = x.T @ x, x.T @ target[fit]
            for values, ridge in zip(out, RIDGES, strict=True):
                values[read] = inner[read] @ np.linalg.solve(gram + ridge * len(x) * np.eye(len(gram)), moment)
        return out

    def _trees(
        self, raw: Floats, inner: Floats, columns: Sequence[int] | None, target: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Cross-fitted regression trees on raw and centred columns."""
        import lightgbm

        sides = [values if columns is None else values[:, columns] for values in (raw, inner)]
        x, out = np.concatenate(sides, axis=1), np.zeros(len(target))
        options = {"objective": "regression", "num_leaves": 15, "learning_rate": 0.15, "feature_fraction": 0.5}
        quiet = {"max_bin": 63, "num_threads": 1, "deterministic": True, "seed": 0, "verbosity": -1}
        for fold in (0, 1):
            train = lightgbm.Dataset(x[self._fold != fold], target[self._fold != fold])
            booster = lightgbm.train(options | quiet, train, num_boost_round=ROUNDS)
            out[self._fold == fold] = booster.predict(x[self._fold == fold])
        return out


def _label_check(name: str, lists: _Lists, readouts: dict[str, _Readouts], generator: np.random.Generator) -> Check:
    """The block that comes nearest to a leak, as the share of its bar that it reaches; 1 is a leak."""
    worst, said, found = -np.inf, "", Interval(nan, nan, nan)
    status: CheckStatus = "pass"
    lines = []
    for block, readout in readouts.items():
        reached = lists.reached_without(block)
        few = () if block == MEETING else (("few", readout.label_few, FEW_LEAK, FEW_DOUBTFUL),)
        for kind, values, leak, doubtful in (*few, ("whole", readout.label_whole, WHOLE_LEAK, WHOLE_DOUBTFUL)):
            alone = lists.ndcg(lists.padded(values))
            missed = max(1.0 - float(reached.mean()), 1e-9)
            gain = paired_bootstrap((alone - reached) / missed, generator=generator)
            columns = ", ".join(f"{block}[{c}]" for c in readout.label_columns)
            what = columns if kind == "few" else f"all of {block}"
            line = f"{what} alone {alone.mean():.3f}, all else and V1 {reached.mean():.3f}"
            if gain.mean / leak > worst:
                worst, said, found = (
                    gain.mean / leak,
                    line,
                    Interval(gain.mean / leak, gain.low / leak, gain.high / leak),
                )
            if gain.mean >= doubtful:
                lines.append(line)
            if gain.mean >= leak and gain.low > 0:
                status = "fail"
            elif gain.mean >= doubtful and gain.low > 0 and status == "pass":
                status = "warning"
    return Check(
        name=name,
        value=found.mean,
        ci_low=found.low,
        ci_high=found.high,
        threshold=1.0,
        direction="at most",
        status=status,
        detail="nDCG on training queries, cross-fitted: " + ("; ".join(lines) or said),
    )


def _v1_check(name: str, readouts: dict[str, _Readouts], v1_modalities: Sequence[str]) -> Check:
    """The block whose few columns come nearest to V1's score, by the bars of where they stand."""

    def bars(block: str) -> tuple[float, float]:
        return V1_OWN if block in v1_modalities else V1_ELSEWHERE

    status: CheckStatus = "pass"
    lines = []
    blocks = [block for block in readouts if block != MEETING]
    for block in blocks:
        copy, doubtful = bars(block)
        found = readouts[block]
        if found.v1 < doubtful:
            continue
        lines.append(f"{', '.join(f'{block}[{c}]' for c in found.v1_columns)} give {found.v1:.4f}")
        status = "fail" if found.v1 >= copy or status == "fail" else "warning"
    worst = max(blocks, key=lambda block: (readouts[block].v1 - 1) / (1 - bars(block)[0]))
    value = readouts[worst].v1
    said = "; ".join(lines) or f"at most {value:.3f}, from {worst}"
    return Check(
        name=name,
        value=value,
        ci_low=value,
        ci_high=value,
        threshold=bars(worst)[0],
        direction="at most",
        status=status,
        detail=f"correlation with V1's score within queries, cross-fitted: {said}",
    )
