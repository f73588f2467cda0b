"""V1's scores as a model reads them: V1's order in every query, whatever the scores' scale."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fusion_models.config import ModelConfig
from fusion_models.data import RankingDataset, open_dataset
from fusion_models.data.arrays.v1_scores import V1_INPUTS, v1_input, v1_input_kind, v1_input_of_lists
from fusion_models.evaluation import Scored
from fusion_models.lambdamart import TreeInputs
from fusion_models.models.projections import Projections
from fusion_models.models.trees import document_matrix
from fusion_models.probes.columns import fit_columns

QUERIES, CANDIDATES = 40, 8


def dataset(change: Any) -> RankingDataset:
    """A small shop whose V1 scores (`[QUERIES, CANDIDATES]`) were changed."""
    g = np.random.default_rng(0)
    scores = change(g.normal(size=(QUERIES, CANDIDATES)))
    query = np.repeat(np.arange(QUERIES), CANDIDATES)
    items = {"item_id": [f"i{n}" for n in range(QUERIES * CANDIDATES)]}
    items |= {name: g.normal(size=(QUERIES * CANDIDATES, 2)).astype(np.float32).tolist() for name in ("visual", "text")}
    items["metadata"] = [[float(n)] for n in range(QUERIES * CANDIDATES)]
    splits = ["train"] * 20 + ["validation"] * 10 + ["test"] * 10
    judged = {
        "query_id": [f"q{q}" for q in query],
        "item_id": items["item_id"],
        "label": g.integers(0, 3, QUERIES * CANDIDATES),
        "v1_score": scores.ravel(),
    }
    queries = {"query_id": [f"q{q}" for q in range(QUERIES)], "split": splits}
    return open_dataset(items=pa.table(items), queries=pa.table(queries), judgements=pa.table(judged))


def boosted(scores: Any) -> Any:
    return scores + 1e9 * (scores > 0.5)


SCORES: dict[str, tuple[Any, str]] = {
    "plain": (lambda s: s, "score"),
    "one offset of 1e9": (lambda s: s + 1e9, "score"),
    "tiny": (lambda s: s * 1e-60, "rank"),
    "a time a query": (lambda s: s + 1e9 * np.arange(QUERIES)[:, None], "centred"),
    "boosts": (boosted, "rank"),
}


@pytest.mark.parametrize("name", SCORES)
def test_a_model_reads_v1_s_order_in_every_query(name: str) -> None:
    change, kind = SCORES[name]
    data = dataset(change)
    assert data.statistics.v1_input == kind
    batch = data.gather(np.arange(QUERIES))
    config = ModelConfig(context="v1")
    model = Projections(config, data.schema, data.statistics, learned_null=False)
    seen = model.v1_scale(batch.v1_seen)
    assert seen.dtype == torch.float32
    assert torch.isfinite(seen).all()
    assert seen.abs().max() < 100
    for query in range(QUERIES):
        assert (
            rankdata(seen[query]).tolist() == rankdata(data.v1[query * CANDIDATES : (query + 1) * CANDIDATES]).tolist()
        )


@pytest.mark.parametrize("name", SCORES)
def test_v1_s_ndcg_is_that_of_its_order(name: str) -> None:
    change, _ = SCORES[name]
    plain, data = dataset(lambda s: s), dataset(change)

    def v1_ndcg(of: RankingDataset) -> Any:
        batch = of.gather(np.arange(QUERIES))
        scored = Scored(
            rows=np.arange(QUERIES), scores=torch.zeros(batch.v1.shape), labels=batch.labels, v1=batch.v1,
            valid=batch.valid,
        )  # fmt: skip
        return scored.v1_ndcg()

    np.testing.assert_array_equal(v1_ndcg(data), v1_ndcg(plain))


@given(
    st.lists(st.lists(st.floats(-1e90, 1e90), min_size=1, max_size=6), min_size=1, max_size=6),
    st.sampled_from(["score", "centred", "rank"]),
)
def test_every_kind_of_input_keeps_the_order_that_it_can_hold(lists: list[list[float]], kind: Any) -> None:
    v1 = np.concatenate([np.array(x, dtype=np.float64) for x in lists])
    query = np.repeat(np.arange(len(lists)), [len(x) for x in lists])
    offset = np.concatenate([[0], np.cumsum([len(x) for x in lists])])
    given_back = v1_input(v1, offset, kind)
    chosen = v1_input(v1, offset, v1_input_kind(v1, query))
    spread = chosen.std() or 1.0
    seen = ((chosen - chosen.mean()) / spread).astype(np.float32)
    for start, end in itertools.pairwise(offset):
        a, b = v1[start:end], given_back[start:end]
        assert (np.diff(b[np.argsort(a, kind="stable")]) >= 0).all()
        if kind == "rank":
            assert rankdata(a).tolist() == rankdata(b).tolist()
            assert 0.0 <= b.min() <= b.max() <= 1.0
        assert (np.diff(seen[start:end][np.argsort(a, kind="stable")]) >= 0).all()


def test_a_query_without_candidates_plays_no_part() -> None:
    v1, offset = np.array([3.0, 1.0, 2.0]), np.array([0, 0, 2, 2, 3])
    assert v1_input(v1, offset, "rank").tolist() == [1.0, 0.0, 0.0]
    assert v1_input(v1, offset, "centred").tolist() == [1.0, -1.0, 0.0]
    assert v1_input(np.zeros(0), np.zeros(3, np.int64), "rank").tolist() == []


@pytest.mark.parametrize("kind", V1_INPUTS)
@pytest.mark.parametrize("name", ["ties", "one offset of 1e9", "boosts", "a time a query"])
def test_padded_lists_read_the_same_as_a_dataset_s_scores(kind: Any, name: str) -> None:
    """Padding stands anywhere, holds anything, and one list is nothing else."""
    change = (lambda s: np.round(s)) if name == "ties" else SCORES[name][0]
    g = np.random.default_rng(1)
    v1 = change(g.normal(size=(QUERIES, CANDIDATES)))
    valid = g.random(v1.shape) < 0.7
    valid[0], valid[1], valid[2] = True, False, [True] + [False] * (CANDIDATES - 1)
    offset = np.concatenate([[0], np.cumsum(valid.sum(axis=1))])
    found = v1_input_of_lists(torch.from_numpy(v1), torch.from_numpy(valid), kind).numpy()
    wanted = v1_input(v1[valid], offset, kind)
    spread = np.abs(wanted).max()
    np.testing.assert_allclose(found[valid], wanted, rtol=0, atol=0 if kind != "centred" else 1e-15 * spread)
    assert kind == "score" or not found[~valid].any()


class Largest(TorchDispatchMode):
    """The most numbers that one tensor held inside."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        found = [x.numel() for x in (made if isinstance(made, tuple | list) else [made]) if isinstance(x, Tensor)]
        self.numbers = max(self.numbers, *found, 0)
        return made


@pytest.mark.parametrize("kind", V1_INPUTS)
def test_memory_grows_with_the_length_of_lists_and_not_with_its_square(kind: Any) -> None:
    v1 = torch.randn(2, 300, dtype=torch.float64)
    with Largest() as largest:
        v1_input_of_lists(v1, v1 < 1.0, kind)
    assert largest.numbers <= v1.numel()


@pytest.mark.parametrize("name", ["plain", "one offset of 1e9"])
def test_trees_and_probes_read_v1_s_order_too(name: str) -> None:
    """float32 numbers around 1e9 are 64 apart."""
    data = dataset(SCORES[name][0])
    batch = data.gather(np.arange(QUERIES))
    rows = np.arange(QUERIES)
    seen = {
        "tuned V1": document_matrix(batch, ("v1", "text"), data.schema.context)[..., -1],
        "LambdaMART": torch.from_numpy(TreeInputs(modalities=("text",), with_v1=True).matrix(batch)[:, -1]),
        "products": fit_columns(data, rows, modalities=("text",), with_v1=True)(batch)[..., -1],
    }
    for who, values in seen.items():
        for query, mine in enumerate(values.reshape(QUERIES, CANDIDATES)):
            there = data.v1[query * CANDIDATES : (query + 1) * CANDIDATES]
            assert rankdata(mine).tolist() == rankdata(there).tolist(), who
