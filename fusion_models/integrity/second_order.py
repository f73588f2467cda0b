"""Products of two columns, and squares of directions, that tell of a target what no linear readout does.

As `probes/second_order` screens them for the labels, here for any target: proposed by one half of the queries and kept
only where the other half confirms them, since the largest of 100,000 covariances is large by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PROPOSED, DIRECTIONS, KEPT = 12, 2, 6
"""By each half: pairs of each form, and eigenvectors at each end; products that are kept, the surest first."""
CONFIRMED = 5.0
"""Standard errors from 0 in the half that did not propose it: a product that is a leak lies far beyond."""
CLIP = 4.0
"""Deviations at which a column is cut: one far value must not rule a product."""

Floats = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Product:
    """A product of two columns, or the square of a direction."""

    columns: tuple[int, ...]
    """Those that it is made of: two, or the four with the largest weights of a direction."""
    signed: bool
    """Of the first column only the sign counts."""
    values: Floats
    """`[N]`."""
    direction: bool = False


def screened_products(raw: Floats, residual: Values, fold: npt.NDArray[np.int64]) -> list[Product]:
    """Products of the columns `raw` `[N, D]` that tell of `residual` `[N]` in both folds `[N]` (0 or 1).

    `residual` has mean 0 within each query, so that what is constant there tells nothing.
    """
    z = raw - raw.mean(0)
    deviation = raw.std(0)
    z = np.clip(z / np.where(deviation > 1e-6 * (1 + np.abs(raw.mean(0))), deviation, np.inf), -CLIP, CLIP)
    found: dict[tuple[tuple[int, ...], bool, int], tuple[float, Product]] = {}
    for proposing in (0, 1):
        mine, other = fold == proposing, fold != proposing
        for product, half in _proposals(z, residual.astype(np.float32), mine):
            key = (product.columns, product.signed, half if product.direction else -1)
            strength = _strength(product.values[other], residual[other])
            if strength >= max(CONFIRMED, found[key][0] if key in found else 0.0):
                found[key] = (strength, product)
    return [product for _, product in sorted(found.values(), key=lambda pair: -pair[0])[:KEPT]]


def _proposals(z: Floats, residual: Floats, mine: npt.NDArray[np.bool_]) -> list[tuple[Product, int]]:
    """Products that look most telling in the documents `mine`; and a number that no other direction has."""
    x, r = z[mine], residual[mine]
    plain, signed, squares = x.T @ (x * r[:, None]), np.sign(x).T @ (x * r[:, None]), x**2
    spread = np.sqrt(np.maximum(squares.T @ (squares * r[:, None] ** 2), 1e-12))
    out: list[tuple[Product, int]] = []
    for pairs, is_signed in (
        (_largest(np.triu(np.abs(plain) / spread, 1)), False),
        (_largest(_apart(signed, x)), True),
    ):
        for i, j in pairs:
            left = np.sign(z[:, i]) if is_signed else z[:, i]
            out.append((Product((i, j), is_signed, left * z[:, j]), -1))
    for number, vector in enumerate(_ends(plain)):
        largest = tuple(int(c) for c in np.sort(np.argsort(-np.abs(vector))[:4]))
        out.append((Product(largest, False, (z @ vector) ** 2, direction=True), number + 2 * DIRECTIONS * int(mine[0])))
    return out


def _apart(signed: Floats, x: Floats) -> Floats:
    """Standardised, without the diagonal."""
    out = np.abs(signed) / np.maximum(np.linalg.norm(x, axis=0), 1e-6)
    np.fill_diagonal(out, 0.0)
    return np.asarray(out, dtype=np.float32)


def _largest(strength: Floats) -> list[tuple[int, int]]:
    count = min(PROPOSED, strength.size)
    best = np.argpartition(-strength, count - 1, axis=None)[:count]
    rows, columns = np.unravel_index(best, strength.shape)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if strength[i, j] > 0]


def _ends(matrix: Floats) -> list[Floats]:
    """Extreme eigenvectors `[D]`; none of few columns, where pairs say it all."""
    from scipy.sparse.linalg import ArpackError, eigsh

    if len(matrix) < 4 * DIRECTIONS or not matrix.any():
        return []
    begin = np.random.default_rng(0).standard_normal(len(matrix))
    try:
        vectors = eigsh(matrix.astype(np.float64), k=2 * DIRECTIONS, which="BE", v0=begin)[1]
    except ArpackError:  # pairs are read all the same
        return []
    return list(vectors.astype(np.float32).T)


def _strength(product: Floats, residual: Values) -> float:
    """Covariance in its standard errors."""
    each = (product - product.mean()) * residual
    return float(abs(each.mean()) / max(each.std() / len(each) ** 0.5, 1e-12))
