"""What stands in the tables that a ranker is given: scalar columns, ids, numbers, what it does not read."""

import datetime
import decimal
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from fusion_models.data import DataError, open_dataset
from fusion_models.evaluation import EVALUATION_QUERIES
from fusion_models.models import Ensemble, build_ranker
from search.serving.frames import FrameRanker
from spaces import PHASES

ITEMS, QUERIES = 60, 30


def tables(kind="mixed"):
    """Three small frames; `kind`: what the modality `metadata` is made of."""
    rng = np.random.default_rng(0)
    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)], "visual": list(rng.normal(size=(ITEMS, 3)))})
    items["text"] = list(rng.normal(size=(ITEMS, 2)))
    items["metadata.price"] = rng.lognormal(size=ITEMS) * 100
    if kind == "numbers":
        items["metadata.weight"] = rng.lognormal(size=ITEMS) * 1000
    if kind in ("mixed", "vector and scalars"):
        items["metadata.brand"] = rng.choice(["north", "south"], size=ITEMS)
    if kind.startswith("vector"):
        items["metadata"] = list(rng.normal(size=(ITEMS, 3)))
    rows = [(q, i) for q in range(QUERIES) for i in rng.choice(ITEMS, size=5, replace=False)]
    judgements = pd.DataFrame({"query_id": [f"q{q}" for q, _ in rows], "item_id": [f"i{i}" for _, i in rows]})
    judgements["label"], judgements["v1_score"] = rng.integers(0, 3, len(rows)), rng.normal(size=len(rows))
    queries = pd.DataFrame({"query_id": [f"q{q}" for q in range(QUERIES)]})
    return {"items": items, "queries": queries, "judgements": judgements}


def opened(given, members=1, **settings):
    """An untrained ranker of these tables."""
    data = open_dataset(**given)
    recipe = PHASES["phase1"].base.updated({"model.layers": 1, "model.width": 16} | settings)
    rankers = []
    for seed in range(members):
        torch.manual_seed(seed)
        rankers.append(build_ranker(recipe, data.schema, data.statistics))
    return FrameRanker(rankers[0] if members == 1 else Ensemble(rankers), data)


@pytest.fixture(scope="module")
def shop(_own_cache):
    return tables()


@pytest.fixture(scope="module")
def ranker(shop):
    return opened(shop)


KINDS = ("mixed", "numbers", "vector and scalars", "vector and a number")


@pytest.fixture(scope="module", params=KINDS)
def any_shop(request, _own_cache):
    given = tables(request.param)
    return given, opened(given)


def scalars(items):
    return [name for name in items if name.startswith("metadata.")]


def test_the_training_s_own_tables_score_as_the_data_do(any_shop):
    given, ranker = any_shop
    pairs = given["judgements"].drop(columns="label")
    known = ranker.score(pairs)
    assert np.abs(ranker.score(pairs, items=given["items"]) - known).max() < 1e-6
    flat = pairs.merge(given["items"], on="item_id")
    new = flat.assign(query_id="new-" + flat["query_id"], item_id="new-" + flat["item_id"])
    assert np.abs(ranker.score(new).to_numpy() - known.to_numpy()).max() < 1e-6


def test_every_column_of_a_modality_is_asked_for(any_shop):
    given, ranker = any_shop
    items, pairs = given["items"], given["judgements"]
    for name in [*scalars(items), *(["metadata"] if "metadata" in items else [])]:
        with pytest.raises(DataError, match=rf"items, column '{name}': missing"):
            ranker.score(pairs, items=items.drop(columns=name))
        flat = pairs.merge(items.drop(columns=name), on="item_id")
        if len([c for c in flat if c.startswith("metadata")]):
            with pytest.raises(DataError, match=rf"pairs, column '{name}': missing"):
                ranker.score(flat)


def test_scalar_columns_of_pairs_count(any_shop):
    given, ranker = any_shop
    pairs, dearer = given["judgements"], given["items"].assign(**{"metadata.price": 1.0})
    flat = pairs.merge(dearer.drop(columns=["visual", "text"]), on="item_id")
    assert np.abs(ranker.score(flat) - ranker.score(pairs)).max() > 1e-4
    assert np.abs(ranker.score(flat) - ranker.score(pairs, items=dearer)).max() < 1e-6


@pytest.mark.usefixtures("_own_cache")
@pytest.mark.parametrize("kind", ["mixed", "numbers"])
@pytest.mark.parametrize("beside", [True, False])
def test_a_vector_in_the_place_of_scalar_columns_is_refused(kind, beside):
    """Nothing tells raw numbers from encoded ones."""
    given = tables(kind)
    ranker, items = opened(given), given["items"]
    width = ranker.data.schema.width("metadata")
    items = items.assign(metadata=list(np.ones((len(items), width))))
    items = items if beside else items.drop(columns=scalars(items))
    for asked in (
        {"pairs": given["judgements"], "items": items},
        {"pairs": given["judgements"].merge(items, on="item_id")},
    ):
        with pytest.raises(DataError, match=r"column 'metadata': no column of the training data.* metadata\.price"):
            ranker.score(**asked)


def test_only_what_the_ranker_reads_is_asked_for(shop):
    ranker = opened(shop, **{"model.modalities": ("visual", "text"), "model.context": "none"})
    pairs = shop["judgements"].drop(columns=["label", "v1_score"])
    new = pairs.assign(item_id="new-" + pairs["item_id"])
    items = shop["items"].assign(item_id="new-" + shop["items"]["item_id"])[["item_id", "visual", "text"]]
    assert np.abs(ranker.score(new, items=items) - ranker.score(pairs)).max() < 1e-6


@pytest.mark.usefixtures("_own_cache")
@pytest.mark.parametrize("nothing", [None, np.nan, pd.NA])
@pytest.mark.parametrize(
    ("place", "column"), [("pairs", "query_id"), ("pairs", "item_id"), ("items", "item_id"), ("queries", "query_id")]
)
def test_an_id_that_is_missing_is_named(place, column, nothing):
    given = tables()
    given["queries"]["features"] = list(np.ones((QUERIES, 2)) * np.arange(QUERIES)[:, None])
    ranker = opened(given)
    asked = {"pairs": given["judgements"], "items": given["items"], "queries": given["queries"]}
    ids = asked[place][column].astype(object).tolist()
    ids[2] = nothing
    asked[place] = asked[place].assign(**{column: pd.Series(ids, dtype=object)})
    with pytest.raises(DataError, match=rf"{place}, column '{column}', row 2: the value is missing"):
        ranker.score(**asked)


def test_a_pair_that_stands_twice_is_named(ranker, shop):
    pairs = shop["judgements"].head(12)
    with pytest.raises(DataError, match=r"pairs, column 'item_id', row 12: item '\w+' stands twice in the list of "):
        ranker.score(pd.concat([pairs, pairs.head(1)]))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([2**60 + i for i in range(5)], "row 1: .* more digits than float64 keeps"),
        ([1e300] * 5, "row 0: 1e.300 is beyond"),
        (["0.5"] * 5, "row 0: '0.5' is of type"),
        ([1.0, np.inf, 0.0, 0.0, 0.0], "row 1: inf is not a finite"),
        (pd.array([1, 2, None, 4, 5], dtype="Int64"), "row 2: the value is missing"),
    ],
)
def test_v1_s_scores_are_read_as_a_dataset_s_are(ranker, shop, values, said):
    with pytest.raises(DataError, match=rf"pairs, column 'v1_score', {said}"):
        ranker.score(shop["judgements"].head(5).assign(v1_score=values))


def test_scores_that_are_not_finite_are_refused(shop):
    ranker = opened(shop)
    pairs = shop["judgements"].head(5)
    with torch.no_grad():
        for weight in ranker.ranker.parameters():
            weight.fill_(torch.inf)
    with pytest.raises(DataError, match=r"pairs, row 0: its score is not finite"):
        ranker.score(pairs)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("metadata.brand", [1, "north"], "its values do not go together"),
        ("metadata.price", ["x", 1.0], "its values do not go together"),
        ("metadata.price", ["1.5", "2.5"], "row 0: '1.5' is of type"),
        ("metadata.brand", [1.5, 2.5], "row 0: 1.5 is of type"),
        ("visual", [["1", "2", "3"]] * 2, "row 0: the column is of type .*, not lists of float"),
        ("visual", [None, [1.0, 2.0, 3.0]], "row 0: the value is missing"),
        ("visual", [[1.0, 2.0]] * 2, "row 0: expected 3 numbers, got 2"),
        ("visual", [[1.0, 2.0, 3.0], [1.0]], "row 1: the list has 1 numbers, and 3 in row 0"),
        ("visual", [[1.0, 2.0, 3.0], [1.0, np.nan, 1.0]], r"row 1: n\w+ at position 1"),
        ("visual", [object(), object()], "its values do not go together"),
    ],
)
def test_a_column_that_cannot_be_read_is_named(ranker, shop, name, values, said):
    items = shop["items"].head(2).assign(**{name: pd.Series(values, dtype=object)})
    pairs = pd.DataFrame({"query_id": ["q0", "q0"], "item_id": ["i0", "i1"], "v1_score": [0.0, 1.0]})
    with pytest.raises(DataError, match=rf"items, column '{name}'(:|,) {said}"):
        ranker.score(pairs, items=items)


IDS = {
    "whole floats": [float(n) for n in range(ITEMS)],
    "dates": [datetime.date(2026, 1, 1) + datetime.timedelta(n) for n in range(ITEMS)],
    "moments": pd.date_range("2026-01-01", periods=ITEMS),
    "decimals": [decimal.Decimal(n) / 10 for n in range(ITEMS)],
    "bytes": [b"%d" % n for n in range(ITEMS)],
    "categories": pd.Categorical([f"c{n}" for n in range(ITEMS)]),
}


@pytest.mark.usefixtures("_own_cache")
@pytest.mark.parametrize("kind", IDS)
def test_ids_are_spelled_as_in_the_dataset(kind):
    given = tables()
    place = given["judgements"]["item_id"].str[1:].astype(int)
    spelled = pd.Series(IDS[kind])
    given["items"]["item_id"], given["judgements"]["item_id"] = spelled, spelled[place].reset_index(drop=True)
    ranker = opened(given)
    found = ranker.score(given["judgements"])
    assert np.abs(ranker.score(given["judgements"], items=given["items"]) - found).max() < 1e-6


def test_every_kind_of_table_is_read(ranker, shop):
    pairs = shop["judgements"].head(10).set_index(pd.Index(list("abcdefghij")))
    wanted = ranker.score(pairs)
    assert list(wanted.index) == list("abcdefghij")
    bare = pairs.reset_index(drop=True)
    for given in (bare.to_dict("list"), pa.Table.from_pandas(bare)):
        assert np.array_equal(ranker.score(given), wanted)
    with pytest.raises(DataError, match="int is no table"):
        ranker.score(7)


@pytest.mark.parametrize("place", ["pairs", "items"])
def test_a_column_that_stands_twice_is_named_where_it_is_read(ranker, shop, place):
    read, unread = ("v1_score", "label") if place == "pairs" else ("visual", "title")
    asked = {"pairs": shop["judgements"], "items": shop["items"].assign(title="x")}
    ranker.score(**(asked | {place: pd.concat([asked[place], asked[place][[unread]]], axis=1)}))
    with pytest.raises(DataError, match=rf"{place}, column '{read}': stands there 2 times"):
        ranker.score(**(asked | {place: pd.concat([asked[place], asked[place][[read]]], axis=1)}))


def test_nothing_warns(ranker, shop):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ranker.score(shop["judgements"], items=shop["items"])


def test_long_lists_are_padded_together(ranker, shop, monkeypatch):
    """One long list in every batch would pad each batch to its length."""
    places, batch = [], FrameRanker._batch
    count = 4 * EVALUATION_QUERIES
    lengths = [40 if n % EVALUATION_QUERIES == 0 else 2 for n in range(count)]
    rows = [(f"new-{q}", f"i{i}") for q, length in enumerate(lengths) for i in range(length)]
    pairs = pd.DataFrame(rows, columns=["query_id", "item_id"]).assign(v1_score=0.5)

    def noted(self, *given):
        found = batch(self, *given)
        places.append(found[0].valid.numel())
        return found

    monkeypatch.setattr(FrameRanker, "_batch", noted)
    found = ranker.score(pairs)
    assert sum(places) <= sum(lengths) + 40 * EVALUATION_QUERIES
    alone = ranker.score(pairs[pairs["query_id"] == f"new-{EVALUATION_QUERIES}"])
    assert np.abs(found[alone.index] - alone).max() < 1e-5
