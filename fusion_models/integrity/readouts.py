"""Cross-fitted readouts of a target from columns: ridge and trees, of any set of columns, over two folds of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from fusion_models.integrity.documents import MEETING, Documents
from fusion_models.integrity.second_order import Product, screened_products
from fusion_models.metrics import standardise
from fusion_models.probes.columns import centred

V1 = "V1's score"
FEW = 4
"""Columns among which a leak is looked for: one-hot grades need so many."""
ROUNDS = 60
RIDGES = (1e-6, 1e-4, 1e-1)
"""Penalties of the linear readouts, per document: a leak behind a loud mask wants none, many columns of noise do."""
ROWS_AT_ONCE = 4_096

Floats = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
Columns = list[int]


@dataclass(frozen=True)
class Target:
    """What is read: `[N]` within queries, and its moments with the columns, a fold."""

    values: Values
    moments: list[Values]
    """`[D]` of either fold."""


class Readouts:
    """The columns of some documents, centred within queries, and what can be read from any set of them.

    Columns are numbered over all blocks; V1's score and the products that a target confirms are columns as well.
    """

    def __init__(self, documents: Documents, generator: np.random.Generator) -> None:
        self.documents = documents
        self._query = documents.query
        self._fold = (generator.permutation(len(documents.valid)) % 2)[self._query.numpy()]
        self.names: list[str] = []
        self.block: list[tuple[str, ...]] = []
        """Each column's block; those of both factors of a product."""
        self.parts: list[tuple[int, ...]] = []
        """Each column's own number; those of the factors of a product."""
        raw = {name: values.numpy() for name, values in documents.blocks.items()}
        raw[V1] = documents.v1[documents.valid][:, None].float().numpy()
        for name, values in raw.items():
            for column in range(values.shape[1]):
                self.names.append(V1 if name == V1 else f"{name}[{column}]")
                self.parts.append((len(self.parts),))
                self.block.append((name,))
        self._raw: Floats = np.concatenate(list(raw.values()), axis=1)
        self._inner = self._within(self._raw)
        self._gram = [self._moments(fold, self._inner) for fold in (0, 1)]
        self.plain = len(self.names)
        """Columns before products."""

    def columns(self, *without: str) -> Columns:
        """All columns but those of some blocks; products need all of their blocks."""
        return [c for c, blocks in enumerate(self.block) if not set(blocks) & set(without)]

    def of(self, name: str) -> Columns:
        """Columns of one block, and products inside it."""
        return [c for c, blocks in enumerate(self.block) if set(blocks) == {name}]

    def target(self, values: torch.Tensor) -> Target:
        """Of values `[Q, L]`: standardised within each query."""
        flat = standardise(values.double(), self.documents.valid)[self.documents.valid].numpy()
        return Target(flat, [self._moments(fold, flat[:, None])[:, 0] for fold in (0, 1)])

    def with_products(self, target: Target, *, without: Sequence[str] = ()) -> tuple[Readouts, Target]:
        """The same, with columns for the products that tell of the target beyond a linear readout."""
        kept = np.array([c for c in self.columns(MEETING, *without) if c < self.plain])
        residual = target.values - self.linear(self.columns(*without), target)[-1]
        residual = centred(torch.from_numpy(residual), self._query).numpy()
        found = screened_products(self._raw[:, kept], residual, self._fold)
        more = object.__new__(Readouts)
        more.__dict__.update(self.__dict__)
        if not found:
            return more, target
        more.names, more.block, more.parts = list(self.names), list(self.block), list(self.parts)
        more._gram = list(self._gram)
        for product in found:
            parts = tuple(int(kept[c]) for c in product.columns)
            more.names.append(_name(product, [self.names[c] for c in parts]))
            more.parts.append(parts)
            more.block.append(tuple(sorted({name for c in parts for name in self.block[c]})))
        products = np.stack([product.values for product in found], axis=1)
        inner = self._within(products)
        more._raw = np.concatenate([self._raw, products], axis=1)
        more._inner = np.concatenate([self._inner, inner], axis=1)
        for fold in (0, 1):
            beside = more._moments(fold, inner)
            old = np.concatenate([self._gram[fold], beside[: len(self.names)]], axis=1)
            more._gram[fold] = np.concatenate([old, beside.T])
        return more, Target(target.values, [more._moments(fold, target.values[:, None])[:, 0] for fold in (0, 1)])

    def linear(self, columns: Sequence[int], target: Target) -> list[Values]:
        """Ridge readouts `[N]`, one a penalty."""
        out = [np.zeros(len(target.values)) for _ in RIDGES]
        mine = np.ix_(columns, columns)
        for read in (0, 1):
            at = np.flatnonzero(self._fold == read)
            fitted = len(self._fold) - len(at)
            gram, moment = self._gram[1 - read][mine], target.moments[1 - read][columns]
            x = self._inner[:, columns][at] if len(columns) < len(self.names) else self._inner[at]
            for values, ridge in zip(out, RIDGES, strict=True):
                values[at] = x @ np.linalg.solve(gram + ridge * max(fitted, 1) * np.eye(len(gram)), moment)
        return out

    def trees(self, columns: Sequence[int], target: Target) -> tuple[Values, Values]:
        """Regression trees on raw and centred columns: the readout `[N]`, and each column's gain `[D]`."""
        import lightgbm

        x = np.concatenate([self._raw[:, columns], self._inner[:, columns]], axis=1)
        out, gain = np.zeros(len(x)), np.zeros(len(columns))
        options = {"objective": "regression", "num_leaves": 15, "learning_rate": 0.15, "feature_fraction": 0.5}
        quiet = {"max_bin": 63, "num_threads": 1, "deterministic": True, "seed": 0, "verbosity": -1}
        for fold in (0, 1):
            train = lightgbm.Dataset(x[self._fold != fold], target.values[self._fold != fold])
            booster = lightgbm.train(options | quiet, train, num_boost_round=ROUNDS)
            out[self._fold == fold] = booster.predict(x[self._fold == fold])
            gain += booster.feature_importance("gain").reshape(2, -1).sum(0)
        return out, gain

    def matched(self, columns: Sequence[int], target: Target) -> Columns:
        """The few columns that tell most of the target together: orthogonal matching pursuit."""
        chosen: Columns = []
        gram, moment = self._gram[0] + self._gram[1], target.moments[0] + target.moments[1]
        norms, left = np.sqrt(np.maximum(gram.diagonal(), 1e-9)), moment
        for _ in range(min(FEW, len(columns))):
            told = np.abs(left) / norms
            told[[c for c in range(len(told)) if c in chosen]] = -1.0
            chosen.append(max(columns, key=told.__getitem__))
            weights = np.linalg.lstsq(gram[np.ix_(chosen, chosen)], moment[chosen], rcond=None)[0]
            left = moment - gram[:, chosen] @ weights
        return chosen

    def weightiest(self, columns: Sequence[int], target: Target) -> list[Columns]:
        """The few columns of most weight in each linear readout of all of them: a leak behind a loud mask."""
        gram, moment = self._gram[0] + self._gram[1], target.moments[0] + target.moments[1]
        mine, out = np.ix_(columns, columns), []
        for ridge in RIDGES:
            weights = np.linalg.solve(
                gram[mine] + ridge * len(self._fold) * np.eye(len(columns)), moment[list(columns)]
            )
            out.append([columns[c] for c in np.argsort(-np.abs(weights))[:FEW]])
        return out

    def _within(self, values: Floats) -> Floats:
        """Centred within queries, at unit deviation; zeros where a column varies in no query."""
        inner = centred(torch.from_numpy(values).double(), self._query)
        deviation = inner.std(0)
        still = deviation <= 1e-6 * (1e-3 + torch.from_numpy(values).double().std(0))
        return (inner / torch.where(still, torch.inf, deviation)).float().numpy()

    def _moments(self, fold: int, other: npt.NDArray[np.floating]) -> Values:
        """`[D, K]`: the columns of a fold times others of it, in float64, a few thousand documents at a time."""
        at = np.flatnonzero(self._fold == fold)
        out = np.zeros((self._inner.shape[1], other.shape[1]))
        for start in range(0, len(at), ROWS_AT_ONCE):
            rows = at[start : start + ROWS_AT_ONCE]
            out += self._inner[rows].astype(np.float64).T @ other[rows].astype(np.float64)
        return out


def _name(product: Product, names: Sequence[str]) -> str:
    if product.direction:
        return f"the square of a sum ({', '.join(names)} most)"
    return f"{'sign of ' if product.signed else ''}{names[0]} times {names[1]}"
