"""Requests over data of scalar columns, query features and pairs: what they bring is read as the tables hold it."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from fusion_models.data import open_dataset
from fusion_models.models import build_ranker
from search.serving.item_columns import ItemColumns
from search.serving.request import BadRequestError, Catalogue
from search.serving.scoring import score_requests
from spaces import PHASES

ITEMS, QUERIES = 40, 30
PLAIN = ("visual", "text", "metadata.price", "metadata.brand", "metadata.sale", "metadata.since")


def tables(vector=False, context=True):
    """Scalar metadata of every kind, beside a vector where asked; with or without features of queries and pairs."""
    rng = np.random.default_rng(0)
    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)], "visual": list(rng.normal(size=(ITEMS, 3)))})
    items["text"] = list(rng.normal(size=(ITEMS, 2)))
    items["metadata.price"] = rng.lognormal(size=ITEMS) * 100
    items["metadata.brand"] = rng.choice(["north", "south"], size=ITEMS)
    items["metadata.sale"] = rng.choice([True, False], size=ITEMS)
    items["metadata.since"] = pd.date_range("2026-01-01", periods=ITEMS)
    if vector:
        items["metadata"] = list(rng.normal(size=(ITEMS, 2)))
    rows = [(q, i) for q in range(QUERIES) for i in rng.choice(ITEMS, size=4, replace=False)]
    judgements = pd.DataFrame({"query_id": [f"q{q}" for q, _ in rows], "item_id": [f"i{i}" for _, i in rows]})
    judgements["label"], judgements["v1_score"] = rng.integers(0, 3, len(rows)), rng.normal(size=len(rows))
    queries = pd.DataFrame({"query_id": [f"q{q}" for q in range(QUERIES)]})
    if context:
        queries["features"] = list(rng.normal(size=(QUERIES, 2)))
        judgements["features"] = list(rng.normal(size=(len(rows), 1)))
    return {"items": items, "queries": queries, "judgements": judgements}


class Shop:
    """A catalogue, an untrained ranker, and requests of the first query."""

    def __init__(self, **kind):
        self.tables = tables(**kind)
        data = open_dataset(**self.tables)
        self.catalogue = Catalogue(data)
        torch.manual_seed(0)
        recipe = PHASES["phase1"].base.updated({"model.layers": 1, "model.width": 16})
        self.ranker = build_ranker(recipe, data.schema, data.statistics).eval()

    def request(self):
        """Of known items."""
        found = self.tables["judgements"].query("query_id == 'q0'")
        pairs = [x.tolist() for x in found["features"]] if "features" in found else [None] * len(found)
        candidates = [
            {"item": item, "v1_score": score} | ({} if pair is None else {"pair": pair})
            for item, score, pair in zip(found["item_id"], found["v1_score"], pairs, strict=True)
        ]
        return {"query": {"id": "q0"}, "candidates": candidates}

    def new(self, places=(0, 1, 2, 3)):
        """The same request with items that are new, and bring their features."""
        request, items = self.request(), self.tables["items"].set_index("item_id")
        for place in places:
            candidate = request["candidates"][place]
            row = items.loc[candidate["item"]]
            given = {name: x.tolist() if isinstance(x, np.ndarray) else x for name, x in row.items()}
            given["metadata.sale"] = bool(given["metadata.sale"])
            given["metadata.since"] = int(given["metadata.since"].as_unit("us").value // 1000)
            candidate |= {"item": f"new-{candidate['item']}", "features": given}
        return request

    def scores(self, request):
        """V2's, as the shadow has them."""
        (found,) = score_requests(self.ranker, self.catalogue, [self.catalogue.parse(json.dumps(request))])
        return np.array(found)

    def problems(self, request):
        """Place -> what is wrong there."""
        with pytest.raises(BadRequestError) as caught:
            self.catalogue.parse(json.dumps(request))
        return {problem.where: problem.what for problem in caught.value.problems}


@pytest.fixture(scope="module")
def shop(_own_cache):
    return Shop()


@pytest.fixture(scope="module", params=[False, True], ids=["scalars", "vector and scalars"])
def any_shop(request, _own_cache):
    return Shop(vector=request.param)


@pytest.mark.parametrize("places", [(0, 1, 2, 3), (2,), (1, 3)])
def test_new_items_score_as_the_ones_that_they_are(any_shop, places):
    known = any_shop.scores(any_shop.request())
    assert np.abs(any_shop.scores(any_shop.new(places)) - known).max() < 1e-5


@pytest.mark.parametrize("zone", ["", "Z", "+00:00", "+02:00"])
def test_a_moment_may_be_iso_text(any_shop, zone):
    request, items = any_shop.new((1, 2)), any_shop.tables["items"].set_index("item_id")
    for candidate in request["candidates"][1:3]:
        moment = items.loc[candidate["item"].removeprefix("new-"), "metadata.since"]
        moment += pd.Timedelta(hours=2 if zone == "+02:00" else 0)
        candidate["features"]["metadata.since"] = moment.isoformat() + zone
    assert np.abs(any_shop.scores(request) - any_shop.scores(any_shop.request())).max() < 1e-5


def test_nothing_is_encoded_before_v1_answers(any_shop, monkeypatch):
    asked = json.dumps(any_shop.new())
    monkeypatch.setattr(ItemColumns, "encoded", None)
    assert any_shop.catalogue.parse(asked).order()


def test_a_dearer_item_scores_otherwise(shop):
    request = shop.new((1,))
    request["candidates"][1]["features"]["metadata.price"] *= 10
    assert abs(shop.scores(request)[1] - shop.scores(shop.request())[1]) > 1e-5


def test_a_category_that_is_missing_or_new_counts_as_other(shop):
    given = []
    for brand in (None, "east"):
        request = shop.new((1,))
        request["candidates"][1]["features"]["metadata.brand"] = brand
        given.append(shop.scores(request))
    assert np.array_equal(*given)


def test_a_vector_in_the_place_of_scalars_is_refused(shop):
    request = shop.new((1,))
    features = request["candidates"][1]["features"]
    for name in [name for name in features if name.startswith("metadata.")]:
        del features[name]
    features["metadata"] = [0.0] * shop.catalogue.data.schema.width("metadata")
    found = shop.problems(request)
    assert found["candidates.1.features.metadata"].startswith("no column of the training data, which have metadata.")
    assert found["candidates.1.features.metadata.price"] == "Field required"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("metadata.price", "19.9", "expected a number"),
        ("metadata.price", None, "expected a number"),
        ("metadata.price", [1.0], "expected a number"),
        ("metadata.price", float("nan"), "finite"),
        ("metadata.brand", 7, "expected a text"),
        ("metadata.brand", "a\0b", "NUL"),
        ("metadata.since", "yesterday", "expected a moment as ISO text (2026-01-31T12:30:00), or a number (timestamp["),
        ("metadata.since", "", "expected a moment"),
        ("metadata.since", None, "expected a moment"),
        ("visual", [1.0], "expected 3 numbers, got 1"),
        ("visual", 1.0, "expected 3 numbers"),
        ("visual", [1.0, "x", 1.0], "valid number"),
        ("colour", "red", "no column of the dataset: visual, text, metadata.price"),
    ],
)
def test_a_value_of_another_kind_is_named(shop, name, value, said):
    request = shop.new((2, 3))
    request["candidates"][3]["features"][name] = value
    place = f"candidates.3.features.{name}"
    found = shop.problems(request)
    assert said in next(what for where, what in found.items() if where.startswith(place))


def test_a_number_beyond_float32_is_named(shop):
    given = shop.tables | {"items": shop.tables["items"].assign(**{"metadata.price": np.arange(ITEMS) * 1e-12})}
    request = shop.new((1, 3))
    request["candidates"][3]["features"]["metadata.price"] = 1e30
    with pytest.raises(BadRequestError, match=r"candidates\.3\.features\.metadata\.price: 1e.30 is too far from"):
        Catalogue(open_dataset(**given)).parse(json.dumps(request))


def test_whole_v1_scores_that_float64_rounds_are_refused(shop):
    request = shop.request()
    for i, candidate in enumerate(request["candidates"]):
        candidate["v1_score"] = 2**60 + i
    found = shop.problems(request)
    assert sorted(found) == [f"candidates.{i}.v1_score" for i in (1, 2, 3)]  # 2^60 itself is a float64 number
    assert all("more digits than float64 keeps" in what for what in found.values())
    for i, candidate in enumerate(request["candidates"]):
        candidate["v1_score"] = 2**53 - i
    assert shop.catalogue.parse(json.dumps(request)).order() == [0, 1, 2, 3]


@pytest.mark.usefixtures("_own_cache")
@pytest.mark.parametrize("context", [True, False])
def test_a_new_query_is_asked_for_features_where_the_data_have_them(context):
    shop = Shop(context=context)
    for query in ({"id": "new"}, {}):
        request = shop.request() | {"query": query}
        if context:
            asked = " ".join(shop.problems(request).values())
            assert "features" in asked
        else:
            assert len(shop.scores(request)) == 4
        request["query"] = query | {"features": [0.0, 1.0]}
        if context:
            assert len(shop.scores(request)) == 4
        else:
            assert shop.problems(request)["query.features"] == "the dataset has none: leave it out"


def test_a_request_comes_back_from_its_own_json(any_shop):
    """The log keeps it so, for a replay."""
    asked = any_shop.new()
    asked["candidates"][1]["features"]["metadata.brand"] = None
    request = any_shop.catalogue.parse(json.dumps(asked))
    again = any_shop.catalogue.parse(request.model_dump_json(exclude_none=True))
    assert again == request
