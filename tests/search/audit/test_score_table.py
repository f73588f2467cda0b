"""The table of scores: what it may hold, and that whatever is amiss with it is said in one line."""

import copy
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion_models.data import DataError
from fusion_models.evaluation import split_lists
from search.audit.given import anchored_interaction, given_scores, masked_shapley
from search.audit.score_table import read_scores

MODALITIES = ("visual", "text", "metadata")


@pytest.fixture(scope="module")
def table(small_data):
    """Every judged pair with V1's score as V2's, rows shuffled."""
    query = np.repeat(small_data.query_ids, small_data.candidates)
    found = pd.DataFrame(
        {"query_id": query, "item_id": small_data.item_ids[small_data.judged_item], "v2_score": np.array(small_data.v1)}
    )
    return found.sample(frac=1.0, random_state=0).reset_index(drop=True)


def outputs(table, data, split="test", members=1):
    return given_scores(read_scores(table, data, MODALITIES), data, split_lists(data, split), MODALITIES, members)


def test_rows_in_any_order_are_laid_beside_their_judgements(table, small_data):
    for split in ("test", "validation"):
        found = outputs(table, small_data, split).artefact(1)
        valid = found.lists.valid
        assert np.array_equal(found.scores[valid], found.lists.v1[valid])
        assert np.nanmax(np.abs(found.ndcg - found.lists.v1_ndcg)) == 0


@pytest.mark.parametrize("form", ["parquet", "csv", "frame with integers"])
def test_a_path_or_a_frame(table, small_data, tmp_path, form):
    path = tmp_path / f"scores.{form}"
    if form == "parquet":
        table.to_parquet(path)
    elif form == "csv":
        table.to_csv(path, index=False)
    given_table = path if form in ("parquet", "csv") else table.assign(v2_score=(1000 * table["v2_score"]).astype(int))
    assert outputs(given_table, small_data).artefact(1).scores.std() > 0


def test_an_id_in_a_csv_is_the_text_that_stands_there(table, small_data, tmp_path):
    odd = ["NA", "null", "None", "nan", "N/A", "007"]
    renamed = dict(zip(small_data.query_ids[:6], odd, strict=True))
    data = copy.copy(small_data)
    data.query_ids = np.array([renamed.get(i, i) for i in small_data.query_ids])
    path = tmp_path / "scores.csv"
    table.assign(query_id=table["query_id"].map(lambda i: renamed.get(i, i))).to_csv(path, index=False)
    assert outputs(path, data).artefact(1).scores.std() > 0
    text = path.read_text().splitlines()
    path.write_text("\n".join([text[0], "," + text[1].split(",", 1)[1], *text[2:]]))
    with pytest.raises(DataError, match=r"column 'query_id', row 0: empty"):
        read_scores(path, data, MODALITIES)


def test_a_folder_of_parts(table, small_data, tmp_path):
    for i, part in enumerate(np.array_split(np.arange(len(table)), 3)):
        table.iloc[part].to_parquet(tmp_path / f"part-{i}.parquet")
    found = outputs(tmp_path, small_data).artefact(1)
    assert np.array_equal(found.scores[found.lists.valid], found.lists.v1[found.lists.valid])
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=r"is a folder without Parquet files"):
        read_scores(tmp_path / "nothing", small_data, MODALITIES)


OTHER_TYPES = {
    "decimals": lambda t: t.assign(v2_score=[Decimal(repr(v)) for v in t["v2_score"]]),
    "categories": lambda t: t.assign(**{name: t[name].astype("category") for name in t}),
    "nullable": lambda t: t.convert_dtypes(),
    "arrow": lambda t: t.convert_dtypes(dtype_backend="pyarrow"),
    "dictionary": lambda t: pa.table({n: pa.array(t[n].tolist()).dictionary_encode() for n in t}),
    "long strings": lambda t: pa.Table.from_pandas(t).cast(
        pa.schema([("query_id", pa.large_string()), ("item_id", pa.string_view()), ("v2_score", pa.float64())])
    ),
    "tensors": lambda t: t.assign(
        v2_score=pd.Series([torch.tensor(v, dtype=torch.float64) for v in t["v2_score"]], dtype=object)
    ),
}


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_columns_of_other_types_say_the_same(table, small_data, kind):
    found = outputs(OTHER_TYPES[kind](table), small_data).artefact(1)
    assert np.allclose(found.scores[found.lists.valid], found.lists.v1[found.lists.valid], rtol=0, atol=1e-12)


def test_shares_may_be_rounded_to_two_decimals(table, small_data):
    found = outputs(table.assign(**{f"attention.{m}": 0.33 for m in MODALITIES}), small_data).artefact(1)
    assert np.allclose(found.shares, 1 / 3)
    with pytest.raises(DataError, match=r"do not sum to 1; the first: 0.3, 0.3, 0.3"):
        outputs(table.assign(**{f"attention.{m}": 0.3 for m in MODALITIES}), small_data)


def test_a_split_that_is_not_whole_is_none(table, small_data):
    validation = small_data.query_ids[small_data.rows("validation")[0]]
    found = outputs(table[table["query_id"] != validation], small_data, "validation")
    assert found is None


def test_columns_become_blanks_refits_shares_and_times(table, small_data):
    rich = table.assign(
        **{
            "v2_score.without_visual": table["v2_score"] * 2,
            "v2_score.without_visual.shuffle.0": 1.0,
            "v2_score.without_visual.shuffle.1": 2.0,
            "v2_score.refit.metadata+text": -table["v2_score"],
            "v2_score.refit.none": 0.0,
            "attention.visual": 0.5,
            "attention.text": 0.3,
            "attention.metadata": 0.2,
            "latency_ms": 7.0,
            "my_own_note": "x",
        }
    )
    read = read_scores(rich, small_data, MODALITIES)
    assert read.ignored == ("my_own_note",)
    found = outputs(rich, small_data)
    artefact = found.artefact(1)
    assert set(artefact.blanked) == {("visual", "zero"), ("visual", "shuffle_across")}
    assert len(artefact.blanked["visual", "shuffle_across"]) == 2
    assert np.allclose(artefact.shares[:, 0], [0.5, 0.3, 0.2])
    assert [(key.modalities, len(runs)) for key, runs in found.trained.items()] == [
        (MODALITIES, 1),
        (("text", "metadata"), 1),
    ]
    assert found.nothing is not None
    assert set(found.latency) == {7.0}


def test_trainings_and_their_members(table, small_data):
    many = pd.concat(several_trainings(table, (3, 1, 2)))
    many["v2_score.refit.text+metadata"] = np.where(many["training"] == 2, np.nan, many["v2_score"])
    found = outputs(many, small_data, members=2)
    assert [len(runs) for runs in found.trained.values()] == [3, 2]
    with pytest.raises(DataError, match=r"3 trainings have scores, and the released ranker averages 4"):
        outputs(many, small_data, members=4)


@pytest.mark.parametrize("names", [(42, 7, 13), ("seed-2", "seed-10", "seed-1")])
def test_the_training_that_stands_first_in_the_table_is_the_released_one(table, small_data, names):
    """Not the one with the smallest number, nor the first by its letters."""
    parts = several_trainings(table, names)
    for members in (1, 2):
        found = outputs(pd.concat(parts), small_data, members=members)
        assert found.released == tuple(map(str, names[:members]))
    alone, valid = outputs(parts[0], small_data), found.artefact(1).lists.valid
    assert np.array_equal(found.artefact(1).scores[valid], alone.artefact(1).scores[valid])
    assert alone.released == ()  # nothing to choose among


def several_trainings(table, names):
    """A table of trainings that differ, each with a refit of its own."""
    noise = np.random.default_rng(0)
    parts = [table.assign(training=name, v2_score=table["v2_score"] + noise.normal(size=len(table))) for name in names]
    return [part.assign(**{"v2_score.refit.text+metadata": noise.normal(size=len(part))}) for part in parts]


@pytest.mark.parametrize("column", ["v2_score", "v2_score.refit.text+metadata"])
def test_one_training_that_was_written_twice_is_not_two(table, small_data, column):
    """Five copies of a training would have no spread between them, and pass for five."""
    for copied in (lambda scores: scores, lambda scores: np.exp(2 * scores) + 1):
        several = several_trainings(table, (1, 2, 3))
        several[2][column] = copied(several[0][column].to_numpy())
        with pytest.raises(DataError, match=r"trainings 1 and 3 order every query .* alike.* Leave it empty") as caught:
            outputs(pd.concat(several), small_data)
        assert f"column '{column}'" in str(caught.value)
    several[2][column] = np.nan
    assert outputs(pd.concat(several), small_data) is not None


def test_additive_scores_have_no_interaction_and_their_shapley_values_sum_up(table, small_data):
    generator = np.random.default_rng(0)
    parts = {m: generator.normal(size=len(table)) for m in MODALITIES}
    columns = {}
    for gone in range(1, 8):
        kept = [m for i, m in enumerate(MODALITIES) if not gone >> i & 1]
        name = "+".join(m for m in MODALITIES if m not in kept)
        columns[f"v2_score.without_{name}"] = sum((parts[m] for m in kept), np.zeros(len(table)))
    additive = outputs(table.assign(v2_score=sum(parts.values()), **columns), small_data)
    assert np.nanmax(np.abs(anchored_interaction(additive, 1))) < 1e-12
    whole = np.nanmean(additive.artefact(1).ndcg)
    nothing = np.nanmean(additive.kept[frozenset()].ndcg)
    assert sum(masked_shapley(additive, 1).values()) == pytest.approx(whole - nothing)
    product = outputs(table.assign(v2_score=np.prod(list(parts.values()), axis=0), **columns), small_data)
    assert np.nanmean(np.abs(anchored_interaction(product, 1))) > 0.01


MISTAKES = {
    "no column": (lambda t: t.drop(columns="v2_score"), r"column 'v2_score': missing; it has query_id, item_id"),
    "empty": (lambda t: t.iloc[:0], r"has no row"),
    "unknown query": (
        lambda t: t.assign(query_id=["nobody", *t["query_id"][1:]]),
        r"column 'query_id', row 0: 'nobody' is in no table",
    ),
    "unknown pair": (lambda t: t.assign(item_id=[t["item_id"].iloc[5], *t["item_id"][1:]]), r"row 0: query .* was not"),
    "empty id": (lambda t: t.assign(item_id=[None, *t["item_id"][1:]]), r"column 'item_id', row 0: empty"),
    "twice": (lambda t: pd.concat([t, t.iloc[[4]]]), r"stands there twice.* Several trainings need a column"),
    "text": (
        lambda t: t.assign(v2_score=["high", *t["v2_score"][1:]]),
        r"column 'v2_score', row 0: 'high' is no number",
    ),
    "list": (lambda t: t.assign(v2_score=[[1.0]] * len(t)), r"column 'v2_score', row 0: \[1.0\] is no number"),
    "bool": (lambda t: t.assign(v2_score=True), r"column 'v2_score', row 0: True is no number"),
    "infinite": (
        lambda t: t.assign(v2_score=[np.inf, *t["v2_score"][1:]]),
        r"column 'v2_score', row 0: inf is not finite",
    ),
    "huge whole number": (lambda t: t.assign(v2_score=[10**400] * len(t)), r"row 0: 1000+ is no number"),
    "complex": (lambda t: t.assign(v2_score=t["v2_score"] + 1j), r"row 0: \(.*j\) is no number"),
    "infinite id": (
        lambda t: t.assign(query_id=np.inf),
        r"column 'query_id', row 0: inf is of type double, not text or a whole number",
    ),
    "twice in a training": (
        lambda t: pd.concat([t.assign(training=0)] * 2),
        r"stands there twice for training 0\. ",
    ),
    "two names for one blank": (
        lambda t: t.assign(**{"v2_score.without_visual": 1.0, "v2_score.without_visual.zero": 2.0}),
        r"column 'v2_score.without_visual.zero': says what 'v2_score.without_visual' says. Leave one",
    ),
    "two names for one refit": (
        lambda t: t.assign(**{"v2_score.refit.text+metadata": 1.0, "v2_score.refit.metadata+text": 2.0}),
        r"says what 'v2_score.refit.text\+metadata' says",
    ),
    "seconds": (lambda t: t.assign(latency_ms=0.004), r"column 'latency_ms': half of the queries .* not seconds"),
    "ssim of 3": (lambda t: t.assign(ssim=3.0), r"column 'ssim', row 0: 3 is no SSIM"),
    "all empty": (lambda t: t.assign(v2_score=np.nan), r"column 'v2_score': empty in every row"),
    "unknown column": (
        lambda t: t.assign(**{"v2_score.without_visal": 1.0}),
        r"column 'v2_score.without_visal': unknown. Did you mean v2_score.without_visual",
    ),
    "unknown kind": (lambda t: t.assign(**{"v2_score.without_visual.zeros": 1.0}), r"unknown. Did you mean"),
    "refit of all": (lambda t: t.assign(**{"v2_score.refit.visual+text+metadata": 1.0}), r"unknown. Did you mean"),
    "one share": (lambda t: t.assign(**{"attention.visual": 1.0}), r"missing: attention.text, attention.metadata"),
    "shares of 2": (
        lambda t: t.assign(**{f"attention.{m}": 1.0 for m in MODALITIES}),
        r"do not sum to 1; the first: 1, 1, 1",
    ),
    "two times": (
        lambda t: t.assign(latency_ms=np.arange(len(t))),
        r"column 'latency_ms': query .* A query is answered",
    ),
    "negative time": (lambda t: t.assign(latency_ms=-1.0), r"column 'latency_ms', row 0: -1 is negative"),
    "half a column": (
        lambda t: t.assign(**{"v2_score.without_text": np.where(np.arange(len(t)) % 2, np.nan, 1.0)}),
        r"column 'v2_score.without_text': \d+ of [\d,]+ judged pairs of the test split have no number",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_that_says_what_and_where(table, small_data, mistake):
    change, said = MISTAKES[mistake]
    with pytest.raises(DataError, match=said) as caught:
        outputs(change(table), small_data)
    assert "\n" not in str(caught.value)


def test_a_missing_pair_is_counted_and_named(table, small_data):
    query = small_data.query_ids[small_data.rows("test")[0]]
    with pytest.raises(DataError, match=rf"8 of [\d,]+ judged pairs .*; the first: query '{query}' with item"):
        outputs(table[table["query_id"] != query], small_data)


@pytest.mark.parametrize("given_table", [7, "nowhere.parquet", {"a": 1}])
def test_what_is_no_table_says_so(small_data, given_table):
    with pytest.raises(DataError, match=r"Give a Parquet or CSV file"):
        read_scores(given_table, small_data, MODALITIES)


def test_a_file_that_is_no_table_says_so(small_data, tmp_path):
    path = tmp_path / "scores.parquet"
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"scores.parquet: cannot be read") as caught:
        read_scores(path, small_data, MODALITIES)
    assert "\n" not in str(caught.value)


CELL = st.one_of(
    st.none(), st.floats(), st.integers(), st.text(max_size=3), st.booleans(), st.lists(st.integers(), max_size=2)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    column=st.sampled_from(["query_id", "item_id", "v2_score", "training", "v2_score.without_text", "latency_ms"]),
    cells=st.lists(CELL, min_size=1, max_size=4),
    row=st.integers(0, 1000),
    drop=st.booleans(),
)
def test_any_table_is_read_or_refused_in_one_line(table, small_data, column, cells, row, drop):
    broken = table.copy()
    values = list(broken[column]) if column in broken else [1.0] * len(broken)
    place = row % (len(values) - len(cells))
    values[place : place + len(cells)] = cells
    broken[column] = pd.Series(values, dtype=object)
    broken = broken.drop(index=place) if drop else broken
    refused = None
    try:
        found = outputs(broken, small_data)
    except DataError as error:
        refused = str(error)
    if refused is None:
        assert np.isfinite(found.artefact(1).scores).all()
    else:
        assert "\n" not in refused
