"""V1's scores, and which pictures of its split each query is judged on."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import numpy.typing as npt

from .embed import Array

Indices = npt.NDArray[np.int64]
CANDIDATES = 46
V1_TOP, PICTURE_TOP = 14, 6
RELEVANT = {2: 6, 1: 4}
"""Pictures added of each grade, at the most; the list is filled up at random."""
BM25_WEIGHT, COSINE_WEIGHT = 1.0, 1.0
K1, B = 1.2, 0.75
RIDGE = 100.0
"""Penalty of the picture retriever (a weak one: it sees 1,263 titles)."""


def bm25(query: tuple[str, ...], titles: list[list[str]]) -> Array:
    """BM25 of every title of the pool (k1 1.2, b 0.75), divided by the pool's highest; `[N]`, in 0..1."""
    mean_length = sum(map(len, titles)) / max(1, len(titles))
    scores = np.zeros(len(titles), dtype=np.float64)
    counts = [Counter(title) for title in titles]
    for word in query:
        having = sum(word in count for count in counts)
        idf = math.log(1.0 + (len(titles) - having + 0.5) / (having + 0.5))
        for number, count in enumerate(counts):
            if word in count:
                norm = K1 * (1.0 - B + B * len(titles[number]) / mean_length)
                scores[number] += idf * count[word] * (K1 + 1.0) / (count[word] + norm)
    return np.asarray(scores / max(scores.max(), 1e-9), dtype=np.float32)


def v1_scores(lexical: Array, cosine: Array) -> Array:
    """The production ranker: normalised BM25 + cosine of MiniLM embeddings, both on the title alone."""
    return BM25_WEIGHT * lexical + COSINE_WEIGHT * cosine


def picture_to_text(visual: Array, text: Array, group: Indices, train: npt.NDArray[np.bool_]) -> Array:
    """The title embedding that a picture suggests, `[N, D]`: ridge regression on training items, unit length.

    A training picture is predicted by the folds that do not hold its group, so that this retriever is as good, or as
    bad, on training lists as on test lists. Titles are its target; keywords are not looked at.
    """
    folds = np.where(train, group % 5, -1)
    out = np.zeros_like(text)
    for fold in (-1, *range(5)):
        fitted, applied = train & (folds != fold), folds == fold
        centre, target = visual[fitted].mean(0), text[fitted].mean(0)
        scale = visual[fitted].std(0).mean()
        x = (visual[fitted] - centre) / scale
        weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (text[fitted] - target))
        out[applied] = (visual[applied] - centre) / scale @ weights
    return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True), dtype=np.float32)


def choose(v1: Array, picture: Array, grades: Indices, generator: np.random.Generator) -> Indices:
    """Rows of the pool that make one list, shuffled; which source brought a picture is not kept.

    V1's top 14; the picture retriever's top 6; up to 6 of grade 2 and 4 of grade 1, drawn at random from the whole
    pool; the rest, to 46, drawn at random. A picture that two sources bring counts once.
    """
    chosen = set(_top(v1, V1_TOP, generator)) | set(_top(picture, PICTURE_TOP, generator))
    for level, most in RELEVANT.items():
        chosen |= set(generator.permutation(np.flatnonzero(grades == level))[:most].tolist())
    for row in generator.permutation(len(v1)).tolist():
        if len(chosen) >= CANDIDATES:
            break
        chosen.add(row)
    return generator.permutation(np.array(sorted(chosen), dtype=np.int64))


def _top(scores: Array, count: int, generator: np.random.Generator) -> list[int]:
    """Rows of the highest scores; ties in random order."""
    shuffled = generator.permutation(len(scores))
    order: list[int] = shuffled[np.argsort(-scores[shuffled], kind="stable")][:count].tolist()
    return order
