"""nDCG@10 of 10,000 lists of 100 against the usual packages, in one run: `python benchmarks/metric_speed.py`.

Needs the extra `bench`. Every package gets one thread and the same float32 scores and graded labels without ties, so
that all of them must agree (their gain is 2^label - 1 here, by handing it over as the label where they know only the
linear one). Two times each, the least of a few tries: from what the package itself works on, and from the arrays that
a ranker gives, conversion included. Then ties and empty lists: this project's value against a loop over all orders.
"""

from __future__ import annotations

import itertools
import os

os.environ["NUMBA_NUM_THREADS"] = "1"

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

import ir_measures
import numpy as np
import pytrec_eval
import ranx
import torch

from fusion_models.metrics import ndcg

Dicts = tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]
Arrays = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def to_dicts(labels: np.ndarray[Any, Any], scores: np.ndarray[Any, Any]) -> Dicts:
    """What pytrec_eval and ir-measures read; the label is the gain."""
    items = [f"d{i:03d}" for i in range(labels.shape[1])]
    gains = (2 ** labels.astype(np.int64) - 1).tolist()
    qrels = {f"q{i}": dict(zip(items, row, strict=True)) for i, row in enumerate(gains)}
    run = {f"q{i}": dict(zip(items, row, strict=True)) for i, row in enumerate(scores.tolist())}
    return qrels, run


def of_dicts(values: Mapping[str, float]) -> np.ndarray[Any, Any]:
    """Values in the order of the queries."""
    return np.array([values[f"q{i}"] for i in range(len(values))])


def by_pytrec_eval(given: Dicts) -> np.ndarray[Any, Any]:
    """trec_eval's ndcg_cut_10."""
    found = pytrec_eval.RelevanceEvaluator(given[0], {"ndcg_cut.10"}).evaluate(given[1])
    return of_dicts({query: values["ndcg_cut_10"] for query, values in found.items()})


def by_ir_measures(given: Dicts) -> np.ndarray[Any, Any]:
    """Its default provider of nDCG@10."""
    found = ir_measures.iter_calc([ir_measures.nDCG @ 10], given[0], given[1])
    return of_dicts({row.query_id: row.value for row in found})


def to_ranx(labels: np.ndarray[Any, Any], scores: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """Its own Qrels and Run, by way of the dicts."""
    qrels, run = to_dicts(labels, scores)
    return ranx.Qrels(qrels), ranx.Run(run)


def by_ranx(given: tuple[Any, Any]) -> np.ndarray[Any, Any]:
    """ndcg@10 over its Qrels and Run."""
    values = ranx.evaluate(given[0], given[1], "ndcg@10", return_mean=False)
    order = sorted(range(len(values)), key=lambda i: f"q{i}")  # it sorts queries by name
    return np.asarray(values)[np.argsort(order)]


def to_tensors(labels: np.ndarray[Any, Any], scores: np.ndarray[Any, Any]) -> tuple[torch.Tensor, ...]:
    """Nothing is copied."""
    given = torch.from_numpy(scores), torch.from_numpy(labels)
    return *given, torch.ones(given[0].shape, dtype=torch.bool)


def by_this(given: tuple[torch.Tensor, ...]) -> np.ndarray[Any, Any]:
    """`fusion_models.metrics.ndcg`."""
    return ndcg(*given).numpy()


CONTENDERS: Mapping[str, tuple[Callable[..., Any], Callable[..., np.ndarray[Any, Any]]]] = {
    "fusion_models": (to_tensors, by_this),
    "pytrec_eval": (to_dicts, by_pytrec_eval),
    "ranx": (to_ranx, by_ranx),
    "ir-measures": (to_dicts, by_ir_measures),
}


def naive(scores: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], k: int = 10) -> float:
    """The mean nDCG@k over every order that the scores leave open; NaN without a relevant document."""
    ideal = sum((2.0**y - 1.0) / np.log2(r + 2) for r, y in enumerate(sorted(labels, reverse=True)[:k]))
    if ideal == 0:
        return float("nan")
    blocks = [np.flatnonzero(scores == s) for s in sorted(set(scores.tolist()), reverse=True)]
    found = []
    for orders in itertools.product(*(itertools.permutations(block) for block in blocks)):
        order = list(itertools.chain(*orders))[:k]
        found.append(sum((2.0 ** labels[i] - 1.0) / np.log2(r + 2) for r, i in enumerate(order)))
    return float(np.mean(found)) / ideal


def tied_and_empty(generator: np.random.Generator, lists: int = 200) -> float:
    """Largest difference from `naive` over short lists full of ties, some without a relevant document."""
    scores = generator.integers(0, 3, (lists, 6)).astype(np.float32)
    labels = generator.integers(0, 3, (lists, 6)).astype(np.float32) * (generator.random((lists, 1)) > 0.2)
    valid = np.arange(6) < generator.integers(0, 7, (lists, 1))
    found = ndcg(*(torch.from_numpy(x) for x in (scores, labels.astype(np.float32), valid)), k=3).numpy()
    expected = [naive(scores[i][valid[i]], labels[i][valid[i]], 3) for i in range(lists)]
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    return float(np.nanmax(np.abs(found - expected)))


def least(work: Callable[[], Any], tries: int) -> float:
    """Seconds of one processor of the quickest of some tries."""
    seconds = []
    for _ in range(tries):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def main() -> None:
    """Time each contender, check that they agree, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lists", type=int, default=10_000)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--tries", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    scores = generator.permuted(np.tile(np.arange(asked.candidates), (asked.lists, 1)), axis=1).astype(np.float32)
    labels = generator.integers(0, 5, scores.shape).astype(np.float32)
    rows = {}
    for name, (convert, work) in CONTENDERS.items():
        given = convert(labels, scores)
        values = work(given)  # also compiles what is compiled on the first call
        alone = least(lambda work=work, given=given: work(given), asked.tries)  # type: ignore[misc]
        converting = least(lambda convert=convert: convert(labels, scores), 1)  # type: ignore[misc]
        rows[name] = (values, alone, alone + converting)
    own, alone, whole = rows.pop("fusion_models")
    print(f"nDCG@10 of {asked.lists:,} lists of {asked.candidates}, one thread, CPU ms: alone | from arrays")
    print(f"  fusion_models  {1e3 * alone:9.1f} | {1e3 * whole:9.1f}")
    for name, (values, theirs, all_of_it) in rows.items():
        differs = float(np.abs(values - own).max())
        print(
            f"  {name:13s}  {1e3 * theirs:9.1f} | {1e3 * all_of_it:9.1f}   {theirs / alone:6.1f} | "
            f"{all_of_it / whole:6.1f} times this; largest difference of a value {differs:.1e}"
        )
    fastest = min(theirs for _, theirs, _ in rows.values()) / alone
    arrays = min(all_of_it for _, _, all_of_it in rows.values()) / whole
    print(f"  against the fastest: {fastest:.1f} times alone, {arrays:.1f} times from arrays")
    print(f"  ties, padding and empty lists: at most {tied_and_empty(generator):.1e} from the mean over all orders")


if __name__ == "__main__":
    main()
