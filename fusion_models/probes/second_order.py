"""Products of two columns, or squares of directions, that tell something of the label: what no linear readout finds.

A sign code hides a signal from every single column and from every linear projection: one column holds a random sign,
another the signal times that sign, and only their product speaks. So all products are screened at once: with z the
standardised columns and r the labels less what a linear readout says, `M = mean(r z z')` holds the covariance of the
residual with every product of two columns, and its extreme eigenvectors are the directions whose square tells most
(the spectral start of phase retrieval: Candès, Li and Soltanolkotabi 2015).

The largest of 100,000 covariances is large by chance. So products are proposed by one half of the queries and kept
only where the other half confirms them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.evaluation import EVALUATION_QUERIES
from fusion_models.probes.columns import Columns, Rows, centred

PROPOSED_PAIRS, PROPOSED_DIRECTIONS = 16, 8
"""By each half of the queries: pairs of columns for each pair of modalities, and eigenvectors at each end."""
CONFIRMED = 3.5
"""Standard errors from 0, in the half that did not propose it, from which a product is kept: of 170 products of noise
one is kept in a twelfth of the halves."""
KEPT = 32
"""Products at the most, the surest first."""
RIDGE = 0.1
"""Of the linear readout, per document on standardised columns."""
OPERATIONS = 2e11
"""Multiplications for one half's matrix: beyond it fewer queries are screened."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Products:
    """K products of two projections of the columns. Pickles; also what `derived` of the trees may be."""

    columns: Columns
    left: Tensor
    """`[D, K]`; one column alone, or an eigenvector."""
    right: Tensor
    """`[D, K]`; another column, or the same eigenvector."""
    strength: Floats
    """`[K]`: standard errors from 0 of the covariance with the residual label, in the half that confirmed it."""

    def __call__(self, batch: Batch) -> Tensor:
        """`[B, L, K]`, zeros where padded."""
        values = self.columns(batch)
        return (values @ self.left) * (values @ self.right)

    @property
    def count(self) -> int:
        """K."""
        return self.left.shape[1]


def screen_products(data: RankingDataset, rows: Rows, columns: Columns, *, seed: int = 0) -> Products:
    """Products of the columns that tell of the labels of the query rows `rows` what no linear readout of them says.

    K is 0 where nothing is confirmed, or where there are fewer than 20 rows to cut in two.
    """
    order = np.random.default_rng([seed, 2]).permutation(rows)
    halves = [_Half(data, half, columns) for half in np.array_split(order, 2)] if len(rows) >= 20 else []
    found: dict[tuple[bytes, bytes], tuple[float, Floats, Floats]] = {}
    for proposing, confirming in (halves, halves[::-1]) if halves else ():
        left, right = proposing.proposals()
        for k, strength in enumerate(confirming.strengths(left, right)):
            key = (left[:, k].tobytes(), right[:, k].tobytes())
            if abs(strength) >= CONFIRMED and abs(strength) > abs(found[key][0] if key in found else 0.0):
                found[key] = (float(strength), left[:, k], right[:, k])
    kept = sorted(found.values(), key=lambda entry: -abs(entry[0]))[:KEPT]

    def stacked(side: int) -> Tensor:
        vectors = [entry[side] for entry in kept]
        return torch.from_numpy(np.stack(vectors, axis=1)).float() if kept else torch.zeros(columns.width, 0)

    return Products(
        columns=columns, left=stacked(1), right=stacked(2), strength=np.array([strength for strength, *_ in kept])
    )


class _Half:
    """One half's documents: standardised columns `[N, D]`, and what their labels hold beyond a linear readout `[N]`."""

    def __init__(self, data: RankingDataset, rows: Rows, columns: Columns) -> None:
        most = max(10, int(OPERATIONS / max(columns.width, 1) ** 2 / max(float(data.candidates[rows].mean()), 1.0)))
        z, label, query, number = [], [], [], 0
        for batch in data.batches(rows[:most], EVALUATION_QUERIES):
            z.append(columns(batch)[batch.valid])
            label.append(batch.labels[batch.valid])
            query.append(number + batch.valid.nonzero()[:, 0])
            number += len(batch.valid)
        self._z, self._query = torch.cat(z), torch.cat(query)
        self._blocks = np.array(columns.blocks)
        self._residual = self._unexplained(torch.cat(label).float())

    def _unexplained(self, label: Tensor) -> Tensor:
        """Labels less a cubic in a ridge readout of the columns: the grades' own curve is no product of columns."""
        target = centred(label, self._query)
        linear = centred(self._z, self._query)
        gram = linear.T @ linear + RIDGE * len(linear) * torch.eye(linear.shape[1])
        readout = linear @ torch.linalg.solve(gram, linear.T @ target)
        powers = torch.stack([centred(readout**power, self._query) for power in (1, 2, 3)], dim=1)
        residual = target - powers @ torch.linalg.lstsq(powers, target[:, None]).solution[:, 0]
        deviation = float(residual.std())
        return residual / deviation if deviation > 0 else residual

    def proposals(self) -> tuple[Floats, Floats]:
        """Left and right vectors `[D, K]` of the products that look most telling here, by pair of modalities."""
        n, width = self._z.shape
        matrix = (self._z.T @ (self._z * self._residual[:, None]) / n).double().numpy()
        first, second = np.triu_indices(width, 1)
        size = np.abs(matrix[first, second])
        kind = self._blocks[first] * (self._blocks.max() + 1) + self._blocks[second]
        order = np.lexsort((-size, kind))
        start = np.searchsorted(kind[order], kind[order])
        best = order[np.arange(len(order)) - start < PROPOSED_PAIRS]
        one = np.eye(width)
        left, right = [one[:, first[best]]], [one[:, second[best]]]
        ends = min(PROPOSED_DIRECTIONS, (width - 1) // 2)
        if ends:
            begin = np.random.default_rng(0).standard_normal(width)
            vectors = eigsh(matrix, k=2 * ends, which="BE", v0=begin)[1]
            left.append(vectors)
            right.append(vectors)
        return np.concatenate(left, axis=1), np.concatenate(right, axis=1)

    def strengths(self, left: Floats, right: Floats) -> Floats:
        """`[K]`: covariance of each product with the residual, in its standard errors."""
        one, other = (self._z @ torch.from_numpy(side).float() for side in (left, right))
        each = centred(one * other, self._query) * self._residual[:, None]
        error = each.std(0) / len(each) ** 0.5
        return (each.mean(0) / error.clamp(min=1e-12)).double().numpy()
