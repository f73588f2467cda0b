"""Intervals over queries on simulated differences whose mean is 0: `python benchmarks/interval_levels.py`.

Prints, for each kind of data, how often an interval covers 0 and how often it lies wholly above or below: a gate at the
truth passes or fails falsely as often (2.5 % is promised). Beside it the interval that was read before: a t interval of
one number a query, its first, with Kish's effective number of clusters.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import special

from fusion_models.data import open_dataset
from fusion_models.data.clusters import Held, query_words, relevant_items
from fusion_models.data.crossed_clusters import crossed_clusters
from fusion_models.metrics import crossed, query_interval
from fusion_models.metrics.intervals.query_intervals import Ties

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64] | Ties
Draw = Callable[[np.random.Generator, int], tuple[Floats, Ids | None]]


def zipf(random: np.random.Generator, queries: int, clusters: int, power: float = 1.0) -> npt.NDArray[np.int64]:
    """`[Q]` numbers of clusters, the r-th of which has a share in proportion to 1 / r^power."""
    shares = 1.0 / np.arange(1, clusters + 1) ** power
    return random.choice(clusters, queries, p=shares / shares.sum()).astype(np.int64)


def sparse(random: np.random.Generator, queries: int, larger: float, zeros: float = 0.85) -> Floats:
    """Mostly zeros; gains are `larger` times as frequent as losses, and as many times smaller."""
    gains, size = random.random(queries) < larger / (1 + larger), random.random(queries)
    return np.where(random.random(queries) < zeros, 0.0, np.where(gains, size, -larger * size))


def clustered(clusters: int, correlation: float) -> Draw:
    """Clusters with shares of 1, 1/2, 1/3, ...; `correlation` within them."""

    def drawn(random: np.random.Generator, queries: int) -> tuple[Floats, Ids]:
        ids = zipf(random, queries, clusters)
        own = np.sqrt(1 - correlation) * random.normal(size=queries)
        return np.sqrt(correlation) * random.normal(size=clusters)[ids] + own, ids

    return drawn


def two_words(words: int) -> Draw:
    """Queries of two words of one vocabulary; each word brings a tenth of the variance."""

    def drawn(random: np.random.Generator, queries: int) -> tuple[Floats, Ids]:
        ids = np.stack([zipf(random, queries, words, 0.7) for _ in range(2)], axis=1)
        shared = random.normal(size=words)[ids].sum(axis=1)
        return np.sqrt(0.1) * shared + np.sqrt(0.8) * random.normal(size=queries), ids

    return drawn


def words_and_items(words: int) -> Draw:
    """A word and an item, half as many words as items."""

    def drawn(random: np.random.Generator, queries: int) -> tuple[Floats, Ids]:
        word, item = zipf(random, queries, words, 0.7), zipf(random, queries, 2 * words, 0.7)
        shared = random.normal(size=words)[word] + random.normal(size=2 * words)[item]
        return np.sqrt(0.1) * shared + np.sqrt(0.8) * random.normal(size=queries), crossed(word, item)

    return drawn


def as_clipart(split: str, word: float, item: float) -> tuple[str, int, Draw]:
    """Queries that share words and relevant items as those of `clipart` do.

    The values are drawn: noise of deviation 1, for each word an effect of `word` over the root of their number, and the
    mean of effects of deviation `item` of the relevant items.
    """
    data = open_dataset("clipart")
    rows = np.sort(data.rows(split))
    held = query_words(data, rows)
    assert held is not None
    words = incidence(held)
    items = incidence(relevant_items(data, rows))
    words, items = words / np.sqrt(words.sum(axis=1, keepdims=True)), items / items.sum(axis=1, keepdims=True)
    ties = crossed_clusters(data, split)

    def drawn(random: np.random.Generator, queries: int) -> tuple[Floats, Ids | None]:
        shared = word * (words @ random.normal(size=words.shape[1]))
        return shared + item * (items @ random.normal(size=items.shape[1])) + random.normal(size=queries), ties

    return f"as `clipart`'s {split}, words {word}, items {item}", len(rows), drawn


def incidence(held: Held) -> Floats:
    """`[Q, T]`: 1 where a query holds a thing."""
    out = np.zeros((len(held), len(held.counts)))
    out[held.rows, held.things] = 1.0
    return out


CASES: tuple[tuple[str, int, Draw], ...] = (
    ("normal", 100, lambda random, queries: (random.normal(size=queries), None)),
    ("exponential losses", 100, lambda random, queries: (1 - random.exponential(size=queries), None)),
    ("exponential losses", 300, lambda random, queries: (1 - random.exponential(size=queries), None)),
    ("85 % zeros", 100, lambda random, queries: (sparse(random, queries, 1.0), None)),
    ("85 % zeros, losses twice as large", 100, lambda random, queries: (sparse(random, queries, 2.0), None)),
    ("85 % zeros, losses twice as large", 300, lambda random, queries: (sparse(random, queries, 2.0), None)),
    ("85 % zeros, losses four times as large", 300, lambda random, queries: (sparse(random, queries, 4.0), None)),
    ("85 % zeros, losses four times as large", 720, lambda random, queries: (sparse(random, queries, 4.0), None)),
    ("30 Zipf clusters, correlation 0.05", 300, clustered(30, 0.05)),
    ("30 Zipf clusters, correlation 0.3", 300, clustered(30, 0.3)),
    ("100 Zipf clusters, correlation 0.3", 720, clustered(100, 0.3)),
    ("400 Zipf clusters, correlation 0.3", 720, clustered(400, 0.3)),
    ("two of 40 words", 300, two_words(40)),
    ("two of 150 words", 720, two_words(150)),
    ("30 words × 60 items", 300, words_and_items(30)),
    ("100 words × 200 items", 720, words_and_items(100)),
    *(
        as_clipart(split, word, item)
        for split in ("validation", "test")
        for word, item in ((0.0, 0.0), (0.4, 0.0), (0.4, 1.0), (0.0, 2.0))
    ),
)


def before(values: Floats, ids: Ids | None, level: float = 0.95) -> tuple[float, float]:
    """Limits of a cluster-robust t interval of one number a query."""
    one = np.arange(len(values)) if ids is None else ids.main if isinstance(ids, Ties) else ids
    one = one if one.ndim == 1 else one[:, 0]
    one = np.where(one < 0, len(values) + np.arange(len(values)), one)
    _, index = np.unique(one, return_inverse=True)
    sums, sizes = np.bincount(index, weights=values - values.mean()), np.bincount(index).astype(float)
    variance = len(sums) / (len(sums) - 1) * float((sums**2).sum()) / len(values) ** 2
    df = sizes.sum() ** 2 / (sizes**2).sum() - 1
    half = float(special.stdtrit(df, (1 + level) / 2)) * float(np.sqrt(variance))
    return float(values.mean()) - half, float(values.mean()) + half


def main() -> int:
    """Draw and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=4_000, help="of each case")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(
        "| differences | queries | covers % | wholly above % | below % | width | before: covers % | above % | below % |"
    )
    print("|" + " --- |" * 9)
    for name, queries, drawn in CASES:
        random = np.random.default_rng(arguments.seed)
        now, then = np.empty((2, arguments.repeats, 2))
        for i in range(arguments.repeats):
            values, ids = drawn(random, queries)
            found = query_interval(values, clusters=ids)
            now[i], then[i] = (found.low, found.high), before(values, ids)
        said = [
            f"{100 * np.mean((x[:, 0] <= 0) & (x[:, 1] >= 0)):.1f} | {100 * np.mean(x[:, 0] > 0):.1f} | "
            f"{100 * np.mean(x[:, 1] < 0):.1f}"
            for x in (now, then)
        ]
        width = float(np.median(now[:, 1] - now[:, 0]) / np.median(then[:, 1] - then[:, 0]))
        print(f"| {name} | {queries} | {said[0]} | × {width:.2f} | {said[1]} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
