"""Whether two queries say the same, by their words and by their features."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from functools import lru_cache

import numpy as np

from fusion_models.data import RankingDataset
from fusion_models.data.views.relabelled import normalised
from fusion_models.metrics.duplicates import NARROW

SAME_WORDS, SAME_LETTERS = 0.6, 0.6
"""Jaccard indices of words, and of runs of three letters, from which two texts say the same; a text whose words are all
in the other's does too."""
SAME_DIRECTION = 0.95
"""Cosine of centred query features from which two queries are alike."""
SAME_VALUE = 0.1
"""Training deviations within which all features of two queries must lie where they are fewer than `NARROW`."""


class AlikeQueries:
    """Called with two query rows: whether they say the same; None where no text and no features of both can tell."""

    def __init__(self, data: RankingDataset) -> None:
        self._texts, features = data.query_text, data.query_features
        self._features = None if features is None else np.float64(features) - np.float64(features).mean(0)
        self._std = data.statistics.std["context"][: data.schema.query]
        self._absent = data.queries_without_features
        self._said = lru_cache(maxsize=200_000)(self._parts)

    def __call__(self, row: int, other: int) -> bool | None:
        answers = [answer for ask in (self._same_text, self._same_features) if (answer := ask(row, other)) is not None]
        return any(answers) if answers else None

    def _parts(self, row: int) -> tuple[AbstractSet[str], AbstractSet[str]]:
        """Words, and runs of three letters; both empty without a text."""
        text = "" if self._texts is None else normalised(self._texts[row])
        padded = f"  {text} "
        return frozenset(text.split()), frozenset(padded[i : i + 3] for i in range(len(padded) - 2) if text)

    def _same_text(self, row: int, other: int) -> bool | None:
        (words, letters), (its_words, its_letters) = self._said(row), self._said(other)
        if not words or not its_words:
            return None
        if words <= its_words or its_words <= words:
            return True
        return _jaccard(words, its_words) >= SAME_WORDS or _jaccard(letters, its_letters) >= SAME_LETTERS

    def _same_features(self, row: int, other: int) -> bool | None:
        if self._features is None or self._absent[row] or self._absent[other]:
            return None
        left, right = self._features[row], self._features[other]
        if len(left) < NARROW:
            return bool((np.abs(left - right) <= SAME_VALUE * self._std).all())
        norms = np.linalg.norm(left) * np.linalg.norm(right)
        return bool(norms > 0 and left @ right >= SAME_DIRECTION * norms)


def _jaccard(left: AbstractSet[str], right: AbstractSet[str]) -> float:
    return len(left & right) / max(len(left | right), 1)
