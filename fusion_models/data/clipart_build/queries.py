"""Queries from the curators' keywords, and the grade of each picture for each query."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .catalogue import Picture
from .splits import SPLITS

HELD_OUT = 0.08
"""Share of keywords that no training query may use."""
SINGLE_MINIMUM = 2
"""Pictures of the split that carry the keyword, at the least."""
PAIR_MINIMUM = 1
"""Pictures of the split that carry both keywords, at the least."""
MOST = {"pair": 450, "unseen": 110}
"""Queries of a kind in one split, at the most; drawn at random."""
AUTHORS = 2
"""Groups of pictures a keyword must come from, at the least: one curator's private words make no query."""
MAX_JACCARD = 0.8
"""Words that nearly always come together (`united`, `nation`) make no pair."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """One query of one split."""

    words: tuple[str, ...]
    split: str
    subdomain: str
    """`keyword`, `pair`, or `unseen`: none of its words is in any training query."""

    @property
    def text(self) -> str:
        """As typed: `red apple`."""
        return " ".join(self.words)

    @property
    def name(self) -> str:
        """One id a split: `red apple@test`."""
        return f"{self.text}@{self.split}"


def grade(query: tuple[str, ...], keywords: frozenset[str]) -> int:
    """2: the picture carries all of the query's words; 1: one of two; 0: none."""
    found = sum(word in keywords for word in query)
    return 2 if found == len(query) else min(found, 1)


def make_queries(
    pictures: list[Picture],
    group: npt.NDArray[np.int64],
    split: npt.NDArray[np.int64],
    generator: np.random.Generator,
) -> list[Query]:
    """All queries of all splits. No training query holds a held-out word; seen and unseen words make no pair."""
    users: dict[str, set[int]] = {}
    for picture, number in zip(pictures, group.tolist(), strict=True):
        for word in picture.keywords:
            users.setdefault(word, set()).add(number)
    vocabulary = sorted(word for word, by in users.items() if len(by) >= AUTHORS)
    trainable = {word for word in vocabulary if generator.random() >= HELD_OUT}
    out: list[Query] = []
    seen = trainable
    for number, name in enumerate(SPLITS):
        here = [p.keywords & set(vocabulary) for p, s in zip(pictures, split, strict=True) if s == number]
        kinds: dict[str, list[tuple[str, ...]]] = {"keyword": [], "pair": [], "unseen": []}
        for asked in _singles(here) + _pairs(here):
            known = [word in seen for word in asked]
            if all(known):
                kinds["keyword" if len(asked) == 1 else "pair"].append(asked)
            elif not any(known) and name != "train":
                kinds["unseen"].append(asked)
        for kind, found in kinds.items():
            drawn = sorted(generator.permutation(len(found))[: MOST.get(kind)].tolist())
            out += [Query(words=found[index], split=name, subdomain=kind) for index in drawn]
        if name == "train":
            seen = {word for query in out for word in query.words}
    return out


def _singles(keywords: list[frozenset[str]]) -> list[tuple[str, ...]]:
    counts = Counter(word for bag in keywords for word in bag)
    return [(word,) for word in sorted(counts) if SINGLE_MINIMUM <= counts[word] < len(keywords) / 2]


def _pairs(keywords: list[frozenset[str]]) -> list[tuple[str, ...]]:
    single = Counter(word for bag in keywords for word in bag)
    both = Counter(pair for bag in keywords for pair in itertools.combinations(sorted(bag), 2))
    return [
        (a, b)
        for (a, b), count in sorted(both.items())
        if count >= PAIR_MINIMUM and count <= MAX_JACCARD * (single[a] + single[b] - count)
    ]
