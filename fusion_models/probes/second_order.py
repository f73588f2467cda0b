"""Products of two columns, or squares of directions, that tell something of the label: what no linear readout finds.

A sign code hides a signal from every single column and from every linear projection: one column holds a random sign,
another the signal times that sign, and only their product speaks. So all products are screened at once: with z the
standardised columns and r the labels less what a linear readout says, `M = mean(r z z')` holds the covariance of the
residual with every product of two columns, `mean(r sign(z) z')` with every signed one, and the extreme eigenvectors of
M are the directions whose square tells most: the spectral start of phase retrieval (Candès, Li, Soltanolkotabi 2015).

The largest of 100,000 covariances is large by chance. So products are proposed by one half of the queries and kept
only where the other half confirms them. Where items recur, the halves have no item in common either: what is by chance
true of an item would be confirmed wherever it recurs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import ArpackError, eigsh
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.data.folds import judged_items
from fusion_models.evaluation import EVALUATION_QUERIES
from fusion_models.probes.columns import Columns, Rows, centred
from fusion_models.probes.grouped_sums import GroupedSums

PROPOSED_PAIRS, PROPOSED_DIRECTIONS = 16, 8
"""By each half of the queries: pairs of columns for each form and pair of modalities, and eigenvectors at each end."""
CONFIRMED = 3.5
"""Standard errors from 0, in the half that did not propose it, from which a product is kept: of 400 products of noise
one is kept in a fifth of the halves."""
FEWEST = 20
"""Queries, and documents of each half, below which nothing is screened."""
KEPT = 6
"""Products of each kind at the most, the surest first: none crowds out those of another modality."""
RIDGE = 0.1
"""Of the linear readout, per document on standardised columns."""
OPERATIONS = 2e11
"""Multiplications for one half's matrix: beyond it fewer queries are screened."""
MOST_DOCUMENTS = 200_000
"""Of one half: they are held in memory. Whole queries are left out beyond it."""
SETTINGS = (PROPOSED_PAIRS, PROPOSED_DIRECTIONS, CONFIRMED, FEWEST, KEPT, RIDGE, OPERATIONS, MOST_DOCUMENTS)
"""What decides what is found, beside the data: part of the name under which it is kept."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Product:
    """One proposal: `first` and `second` are columns, or `vector` a direction that is squared."""

    kind: str
    first: int = -1
    second: int = -1
    signed: bool = False
    """Only the first column's sign counts."""
    vector: Floats | None = field(default=None, compare=False)
    half: int = 0
    """Which half proposed a direction: those of both are never the same."""

    def sides(self, width: int) -> tuple[Floats, Floats]:
        """Left and right vectors `[D]`."""
        if self.vector is not None:
            return self.vector, self.vector
        left, right = np.zeros(width), np.zeros(width)
        left[self.first] = right[self.second] = 1.0
        return left, right


@dataclass(frozen=True, kw_only=True)
class Products:
    """K products of two projections of the columns. Pickles; also what `derived` of the trees may be."""

    columns: Columns
    left: Tensor
    """`[D, K]`; one column alone, or an eigenvector."""
    right: Tensor
    """`[D, K]`; another column, or the same eigenvector."""
    signed: Tensor
    """`[K]` bool: of the left projection only the sign counts."""
    strength: Floats
    """`[K]`: standard errors from 0 of the covariance with the residual label, in the half that confirmed it."""

    def __call__(self, batch: Batch) -> Tensor:
        """`[B, L, K]`, zeros where padded."""
        values = self.columns(batch)
        return multiplied(values @ self.left, values @ self.right, self.signed)

    @property
    def count(self) -> int:
        """K."""
        return self.left.shape[1]

    def deviation(self, data: RankingDataset, rows: Rows) -> Tensor:
        """`[K]` over the documents of the query rows `rows`, all of which are held at once; 1 of a single document."""
        if not self.count:
            return torch.ones(0)
        values = torch.cat([self(batch)[batch.valid] for batch in data.batches(rows, EVALUATION_QUERIES)])
        return values.std(0) if len(values) > 1 else torch.ones(self.count)


def multiplied(left: Tensor, right: Tensor, signed: Tensor) -> Tensor:
    """`[..., K]` products; of the left factor only the sign counts where `signed` `[K]`."""
    return torch.where(signed, left.sign(), left) * right


def screen_products(data: RankingDataset, rows: Rows, columns: Columns, *, seed: int = 0) -> Products:
    """Products of the columns that tell of the labels of the query rows `rows` what no linear readout of them says.

    K is 0 where nothing is confirmed, or where there is too little to cut in two.
    """
    order = np.random.default_rng([seed, 2]).permutation(rows)
    halves = _halves(data, np.array_split(order, 2), columns, seed) if len(rows) >= FEWEST else []
    found: dict[_Product, float] = {}
    for proposing, confirming in (halves, halves[::-1]) if halves else ():
        proposals = proposing.proposals()
        for product, strength in zip(proposals, confirming.strengths(proposals), strict=True):
            if abs(strength) >= max(CONFIRMED, abs(found.get(product, 0.0))):
                found[product] = float(strength)
    kept: list[_Product] = []
    for product in sorted(found, key=lambda p: -abs(found[p])):
        if sum(product.kind == other.kind for other in kept) < KEPT:
            kept.append(product)
    left, right, signed = _stacked(kept, columns.width)
    return Products(
        columns=columns, left=left, right=right, signed=signed, strength=np.array([found[product] for product in kept])
    )


def _halves(data: RankingDataset, queries: Sequence[Rows], columns: Columns, seed: int) -> list[_Half]:
    """Two halves of the training queries; an item that both judge is in one of them. Empty where one has too little."""
    queries = [_fewer(data, rows, columns.width) for rows in queries]
    first, second = (np.unique(judged_items(data, rows)) for rows in queries)
    shared = np.intersect1d(first, second)
    side = np.random.default_rng([seed, 4]).random(len(shared)) < 0.5
    mine = []
    for of_first in (True, False):
        items = np.ones(data.counts["items"], dtype=np.bool_)
        items[shared] = side == of_first
        mine.append(items)
    left = [int(items[judged_items(data, rows)].sum()) for rows, items in zip(queries, mine, strict=True)]
    if min(left) < FEWEST:
        return []
    return [
        _Half(data, rows, columns, number, items)
        for number, (rows, items) in enumerate(zip(queries, mine, strict=True))
    ]


def _fewer(data: RankingDataset, rows: Rows, width: int) -> Rows:
    """As many of the query rows as memory and patience allow, from the front."""
    most = min(MOST_DOCUMENTS, OPERATIONS / max(width, 1) ** 2)
    within = int(np.searchsorted(np.cumsum(data.candidates[rows]), most, side="right"))
    return rows[: max(10, within)]


def _ends(matrix: Floats, count: int) -> list[Floats]:
    """Eigenvectors `[D]` of the `count` lowest and highest eigenvalues; none of a matrix of zeros."""
    if count == 0 or not matrix.any():
        return []
    begin = np.random.default_rng(0).standard_normal(len(matrix))
    try:
        vectors = eigsh(matrix, k=2 * count, which="BE", v0=begin)[1]
    except ArpackError:  # it does not converge, or its start dies out: all of them then, which takes longer
        vectors = np.linalg.eigh(matrix)[1][:, [*range(count), *range(-count, 0)]]
    return list(vectors.T)


def _stacked(products: Sequence[_Product], width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Left and right vectors `[D, K]`, and whether only the sign of the left counts `[K]`."""
    sides = [product.sides(width) for product in products]
    left, right = (torch.from_numpy(np.array([side[i] for side in sides]).reshape(-1, width).T).float() for i in (0, 1))
    return left, right, torch.tensor([product.signed for product in products], dtype=torch.bool)


class _Half:
    """One half's documents: standardised columns `[N, D]`, and what their labels hold beyond a linear readout `[N]`."""

    def __init__(
        self, data: RankingDataset, rows: Rows, columns: Columns, number: int, items: npt.NDArray[np.bool_]
    ) -> None:
        """`items` `[items]`: those whose documents it has."""
        self._number, kept = number, torch.from_numpy(items)
        z, label, query, item, queries = [], [], [], [], 0
        for batch in data.batches(rows, EVALUATION_QUERIES):
            mine = batch.valid & kept[batch.item]
            z.append(columns(batch)[mine])
            label.append(batch.labels[mine].float())
            query.append(queries + mine.nonzero()[:, 0])
            item.append(batch.item[mine])
            queries += len(batch.valid)
        self._z, self._query, self._item = torch.cat(z), torch.cat(query), torch.cat(item)
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
        scaled: Tensor = residual / deviation if deviation > 0 else residual
        return scaled

    def proposals(self) -> list[_Product]:
        """The products that look most telling here: of each pair of modalities, plain and signed, and directions."""
        count, width = self._z.shape
        weighted = self._z * self._residual[:, None] / count
        plain, signed = (self._z.T @ weighted).double().numpy(), (self._z.sign().T @ weighted).double().numpy()
        upper = np.triu_indices(width, 1)
        out = self._largest("plain", plain[upper], upper)
        rows, others = np.nonzero(~np.eye(width, dtype=bool))
        apart = (rows, others)
        out += self._largest("signed", signed[apart], apart)
        out += [
            _Product("direction", number, vector=vector, half=self._number)
            for number, vector in enumerate(_ends(plain, min(PROPOSED_DIRECTIONS, (width - 1) // 2)))
        ]
        return out

    def _largest(
        self, form: str, values: Floats, place: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
    ) -> list[_Product]:
        first, second = place
        kind = self._blocks[first] * (self._blocks.max() + 1) + self._blocks[second]
        order = np.lexsort((-np.abs(values), kind))
        start = np.searchsorted(kind[order], kind[order])
        best = order[np.arange(len(order)) - start < PROPOSED_PAIRS]
        return [
            _Product(f"{form} {k}", int(i), int(j), signed=form == "signed")
            for k, i, j in zip(kind[best], first[best], second[best], strict=True)
        ]

    def strengths(self, products: Sequence[_Product]) -> Floats:
        """`[K]`: covariance of each product with the residual, in standard errors.

        The larger of two: documents or items as what is independent. An item that recurs in many lists is one witness,
        not as many.
        """
        left, right, signed = _stacked(products, self._z.shape[1])
        each = centred(multiplied(self._z @ left, self._z @ right, signed), self._query) * self._residual[:, None]
        each = each.double()
        errors = []
        for group in (torch.arange(len(each)), self._item):
            _, place, sizes = torch.unique(group, return_inverse=True, return_counts=True)
            sums = GroupedSums()
            sums.add(each.new_zeros(len(sizes), each.shape[1]).index_add_(0, place, each), sizes.double())
            errors.append(sums.error())
        return np.asarray((each.sum(0) / torch.stack(errors).amax(dim=0).clamp(min=1e-12)).numpy())
