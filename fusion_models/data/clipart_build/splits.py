"""Which picture goes to which split: one author's pictures, and near-duplicates, stay together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from .catalogue import Picture, words
from .embed import Array

SPLITS = ("train", "validation", "test")
SHARES = (0.4, 0.2, 0.4)
NEAR_COSINE, NEAR_PIXELS = 0.95, 20.0
"""Near-duplicates: embeddings' cosine above, and root mean square pixel difference (16 x 16, of 255) below."""
SAME_COSINE, SAME_PIXELS = 0.9995, 1.0
"""One picture stored twice: kept once."""


def small_pixels(files: list[Path]) -> Array:
    """`[N, 768]`: each picture as 16 x 16 RGB."""
    return np.stack([np.asarray(Image.open(f).resize((16, 16)), dtype=np.float32).ravel() for f in files])


def alike(embeddings: Array, pixels: Array, cosine: float, difference: float) -> npt.NDArray[np.bool_]:
    """`[N, N]`: pairs of pictures that look the same, both to the network and pixel by pixel."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    squares = (pixels**2).sum(1)
    distance = np.maximum(squares[:, None] + squares - 2 * pixels @ pixels.T, 0) / pixels.shape[1]
    return np.asarray((unit @ unit.T > cosine) & (distance < difference**2))


def components(linked: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Component number of each row of a symmetric adjacency matrix, `[N]`."""
    return np.asarray(connected_components(csr_matrix(linked.astype(np.int8)), directed=False)[1], dtype=np.int64)


def groups(pictures: list[Picture], near: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Group number of each picture, `[N]`: the closure of `same author` (where known) and `near-duplicate`."""
    authors = np.array([p.author or f"?{number}" for number, p in enumerate(pictures)])
    return components(near | (authors[:, None] == authors))


def assign_splits(
    pictures: list[Picture], group: npt.NDArray[np.int64], generator: np.random.Generator, moves: int = 20_000
) -> npt.NDArray[np.int64]:
    """Split number of each picture, `[N]`: random whole groups, then `moves` random single moves, the better kept.

    Better: nearer to `SHARES`, common keywords with pictures in every split, and titles that name as many of their
    keywords in one split as in another (else one split is V1's and another is not). Counts alone are looked at, no
    feature and no score.
    """
    size = np.bincount(group)
    common = [w for w, n in Counter(w for p in pictures for w in p.keywords).items() if n >= 6]
    tally = np.zeros((len(size), len(common) + 3))
    for number, picture in zip(group, pictures, strict=True):
        named = len(picture.keywords & set(words(picture.title)))
        tally[number] += [*(word in picture.keywords for word in common), 1.0, named, len(picture.keywords)]
    split = generator.choice(3, size=len(size), p=SHARES)
    totals = np.stack([tally[split == number].sum(0) for number in range(3)])
    value = _balance(totals)
    for _ in range(moves):
        moved, target = generator.integers(len(size)), generator.integers(3)
        trial = totals.copy()
        trial[split[moved]] -= tally[moved]
        trial[target] += tally[moved]
        if (reached := _balance(trial)) > value:
            split[moved], totals, value = target, trial, reached
    return split[group]


def _balance(totals: npt.NDArray[np.float64]) -> float:
    """How good an assignment is, from each split's counts `[3, W + 3]`: W keywords, pictures, named, keywords."""
    covered = np.minimum(totals[:, :-3] / 4.0, 1.0).min(0).mean()
    shares = totals[:, -3] / totals[:, -3].sum()
    named = totals[:, -2] / np.maximum(totals[:, -1], 1.0)
    return float(covered - 3.0 * np.abs(shares - SHARES).sum() - 3.0 * (named.max() - named.min()))
