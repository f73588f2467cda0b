"""Probes find a sign-coded picture that single columns hide, and nothing where nothing is."""

import math
import pickle
from functools import partial
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fusion_models.data import open_dataset
from fusion_models.data.views.sign_planted import sign_planted, sign_signal
from fusion_models.lambdamart import TreeInputs, train_lambdamart, tree_scores
from fusion_models.metrics import Interval, ndcg
from fusion_models.probes import (
    Plant,
    Power,
    no_power,
    plant_signal,
    power,
    probe_power,
    product_pair,
    read_probes,
    tree_pair,
)
from fusion_models.probes.columns import centred, fit_columns
from fusion_models.probes.power import LOOKS, joined
from fusion_models.probes.second_order import screen_products

SIGNED = "planted:seed-case?queries=420&candidates=12&visual_width=48&label_lean=0"
NOTHING = "planted:no-visual?queries=420&candidates=12&visual_width=48"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def signed(_own_cache):
    return open_dataset(SIGNED)


@pytest.fixture(scope="module")
def nothing(_own_cache):
    return open_dataset(NOTHING)


@pytest.mark.parametrize("pair", [tree_pair, product_pair])
def test_a_probe_finds_a_sign_coded_picture_and_nothing_in_noise(pair, signed, nothing):
    found = pair(signed, "test", seeds=(0, 1))
    assert found.gain().mean > 0.03
    assert found.gain().low > 0
    idle = pair(nothing, "test", seeds=(0, 1))
    assert abs(idle.gain().mean) < 0.01
    assert found.with_it.scores.shape == (2, len(signed.rows("test")), 12)
    assert found.with_it.ndcg().shape == (2, len(signed.rows("test")))
    assert found.gain(clusters=np.arange(len(signed.rows("test"))) // 2).mean == found.gain().mean


def test_trees_on_the_raw_columns_alone_miss_it(signed):
    assert tree_pair(signed, "test", seeds=(0, 1), products=False).gain().mean < 0.02


@pytest.mark.parametrize("pair", [tree_pair, product_pair])
def test_a_probe_repeats_itself_and_reads_no_label_of_the_split_it_scores(pair, signed):
    first = pair(signed, "test", seeds=(0,))
    other = sign_planted(signed, "visual", 0.0, 0)
    labels = np.array(other.labels)
    test = np.repeat(signed.split, signed.candidates) == 2
    labels[test] = 0
    other.labels = labels
    again = pair(other, "test", seeds=(0,))
    for one, other_arm in ((first.with_it, again.with_it), (first.without, again.without)):
        torch.testing.assert_close(one.scores, other_arm.scores, atol=1e-4, rtol=0)  # sums follow where arrays lie
    with pytest.raises(ValueError, match="suspect must be a modality of the dataset"):
        pair(signed, "test", suspect="image")


def test_products_are_confirmed_by_queries_that_did_not_propose_them(signed, nothing):
    columns = fit_columns(signed, signed.rows("train"))
    found = screen_products(signed, signed.rows("train"), columns)
    pairs = {
        tuple(sorted(np.flatnonzero((found.left[:, k].abs() + found.right[:, k].abs()).numpy())[:2]))
        for k in range(found.count)
    }
    assert any(b < 48 and b - a == 2 for a, b in pairs)  # a sign and the signal times that sign stand two apart
    idle = screen_products(nothing, nothing.rows("train"), fit_columns(nothing, nothing.rows("train")))
    assert idle.count <= 3
    batch = signed.gather(signed.rows("test")[:5])
    assert found(batch).shape == (5, 12, found.count)
    assert torch.equal(pickle.loads(pickle.dumps(found))(batch), found(batch))


def test_columns_are_standardised_by_the_rows_given_and_zero_where_padded(small_data):
    rows = small_data.rows("train")
    columns = fit_columns(small_data, rows, with_v1=True)
    batch = small_data.gather(rows)
    values = columns(batch)[batch.valid]
    assert columns.width == len(columns.blocks) == values.shape[1]
    torch.testing.assert_close(values.std(0, correction=0), torch.ones(columns.width), atol=0.05, rtol=0)
    padded = small_data.gather(rows[:3], length=20)
    assert not columns(padded)[~padded.valid].any()
    x, query = torch.randn(7, 2), torch.tensor([0, 0, 1, 1, 1, 3, 3])
    naive = torch.cat([x[query == q] - x[query == q].mean(0) for q in (0, 1, 3)])
    torch.testing.assert_close(centred(x, query), naive)


def test_trees_score_the_rows_that_they_have_not_seen(small_data):
    rows = small_data.rows("train")
    half = rows[: len(rows) // 2]
    inputs = TreeInputs(modalities=small_data.schema.modalities, with_v1=True)
    trees = pickle.loads(pickle.dumps(train_lambdamart(small_data, half, inputs, seed=1)))
    parts = [tree_scores(trees, small_data, part) for part in (rows[len(rows) // 2 :], half)]
    both, whole = joined(parts), tree_scores(trees, small_data, rows)
    assert np.array_equal(both.rows, np.sort(rows))
    assert torch.equal(both.scores, whole.scores)
    with pytest.raises(ValueError, match="at least two training queries, got 1"):
        train_lambdamart(small_data, rows[:1])


def test_planted_labels_keep_every_query_its_grades(nothing):
    same = sign_planted(nothing, "visual", 0.0, 0)
    np.testing.assert_array_equal(same.labels, nothing.labels)
    planted = sign_planted(nothing, "visual", 0.5, 0)
    assert (planted.labels != nothing.labels).any()
    for row in range(20):
        judged = slice(nothing.offset[row], nothing.offset[row + 1])
        np.testing.assert_array_equal(np.sort(planted.labels[judged]), np.sort(nothing.labels[judged]))
    again = pickle.loads(pickle.dumps(planted))
    np.testing.assert_array_equal(again.labels, planted.labels)
    np.testing.assert_array_equal(planted.halved().labels, planted.labels)
    assert planted.item_features["visual"] is not None


def test_a_planted_signal_is_invisible_to_a_linear_readout(nothing):
    signal = sign_signal(nothing, "visual", 3)
    train = np.unique(
        np.concatenate([nothing.judged_item[nothing.offset[r] : nothing.offset[r + 1]] for r in nothing.rows("train")])
    )
    x = np.float64(nothing.item_features["visual"][train])
    correlation = np.corrcoef(np.c_[x, signal[train]].T)[-1, :-1]
    assert np.abs(correlation).max() < 0.05
    assert abs(signal[train].std() - 1) < 0.05


def test_columns_without_two_sides_hold_no_sign_code(columns_of_ones):
    with pytest.raises(ValueError, match="0 columns with enough values on either side"):
        sign_signal(columns_of_ones, "metadata", 0)


@pytest.fixture
def columns_of_ones(nothing, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("items", "queries", "judgements"):
        table = pq.read_table(f"{nothing.location}/{name}.parquet")
        if name == "items":
            ones = pa.array([[1.0, 0.0]] * len(table), pa.list_(pa.float32()))
            table = table.set_column(table.column_names.index("metadata"), "metadata", ones)
        pq.write_table(table, tmp_path / f"{name}.parquet")
    return open_dataset(str(tmp_path))


def test_a_plant_is_worth_what_it_should_be_and_a_probe_that_finds_it_counts(nothing):
    plant = plant_signal(nothing, worth=0.06, seed=1)
    assert plant.worth == pytest.approx(0.06, abs=0.006)
    found = probe_power(nothing, "test", product_pair, plant=partial(plant_signal, nothing, worth=0.06))
    assert found.counts
    assert 0.03 < found.gain.mean < 0.09
    assert found.worth == pytest.approx(0.06, abs=0.006)
    assert len(found.plants) == LOOKS[0], "what is plain asks for no more"
    blind = probe_power(
        nothing, "test", partial(tree_pair, products=False), plant=partial(plant_signal, nothing, worth=0.06)
    )
    assert not blind.counts
    with pytest.raises(ValueError, match=r"no sign-coded signal of visual is worth 0\.9"):
        plant_signal(nothing, worth=0.9)
    with pytest.raises(ValueError, match=r"no sign-coded signal of visual is worth 0\.9"):
        probe_power(nothing, "test", product_pair, plant=partial(plant_signal, nothing, worth=0.9))


@pytest.fixture
def plants(monkeypatch):
    """Plants that cost nothing, of seeds that are noted; those in `failing` cannot be made."""
    made = SimpleNamespace(seeds=[], failing=())

    def plant(data, *, seed):
        made.seeds.append(seed)
        if seed in made.failing:
            raise ValueError(f"no plant {seed}")
        return Plant(suspect="visual", seed=seed, strength=0.3, worth=0.02)

    monkeypatch.setattr(power, "plant_signal", plant)
    monkeypatch.setattr(Plant, "into", lambda self, data: data)
    return made


def found_of(gains, monkeypatch, nothing):
    """The power where the plants together give an interval by how many there are."""

    def pair(data, split, *, seeds):
        side = SimpleNamespace(detail=f"seed {seeds[0]}")
        return SimpleNamespace(name="made", with_it=side, without=side)

    monkeypatch.setattr(power, "pooled_gain", lambda pairs, clusters, level: gains[len(pairs)])
    return probe_power(nothing, "validation", pair)


def test_more_plants_are_drawn_while_the_power_is_open(nothing, monkeypatch, plants):
    plain, barely, unsure = Interval(0.018, 0.009, 0.027), Interval(0.012, 0.002, 0.022), Interval(0.012, -0.001, 0.025)
    little = Interval(0.002, -0.003, 0.007)
    for first, counts in ((plain, True), (little, False)):
        found = found_of({LOOKS[0]: first}, monkeypatch, nothing)
        assert (len(found.plants), found.counts) == (LOOKS[0], counts)
    found = found_of(dict(zip(LOOKS, (barely, barely, barely), strict=True)), monkeypatch, nothing)
    assert (len(found.plants), found.counts) == (LOOKS[-1], True), "just above half may be luck at an early look"
    found = found_of(dict(zip(LOOKS, (barely, unsure, little), strict=True)), monkeypatch, nothing)
    assert (len(found.plants), found.counts) == (LOOKS[-1], False)
    assert plants.seeds[-LOOKS[-1] :] == [*range(LOOKS[-1])], "each a draw of its own"


def test_a_plant_that_fails_costs_itself(nothing, monkeypatch, plants):
    plants.failing = (1, 4)
    gains = {n: Interval(0.018, -0.001, 0.037) for n in range(1, 6)} | {6: Interval(0.018, 0.004, 0.032)}
    found = found_of(gains, monkeypatch, nothing)
    assert [plant.seed for plant in found.plants] == [0, 2, 3, 5, 6, 7]
    assert found.counts
    assert "a plant failed: no plant 4" in found.detail
    plants.failing = tuple(range(LOOKS[-1]))
    with pytest.raises(ValueError, match="no plant 0"):
        found_of(gains, monkeypatch, nothing)


def test_what_probes_say_together(nothing):
    plant = plant_signal(nothing)

    def power(low):
        return Power(probe="", plants=(plant,), gain=Interval(0.015, low, 0.02))

    sees, blind = power(0.01), power(-0.01)
    small, large, some = Interval(0.001, -0.002, 0.004), Interval(0.001, -0.01, 0.012), Interval(0.004, 0.001, 0.007)
    assert read_probes({"a": small, "b": small}, {"a": sees, "b": sees}, 0.005) == "nothing"
    assert read_probes({"a": small, "b": large}, {"a": sees, "b": blind}, 0.005) == "nothing"
    assert read_probes({"a": small, "b": large}, {"a": sees, "b": sees}, 0.005) == "undecided"
    assert read_probes({"a": small}, {"a": blind}, 0.005) == "not measured"
    assert read_probes({"a": small}, {"a": no_power("a", "constant columns")}, 0.005) == "not measured"
    assert read_probes({"a": small, "b": some}, {"a": sees, "b": blind}, 0.005) == "something"
    assert math.isnan(no_power("a", "").gain.mean)


def test_the_scores_that_come_back_are_those_of_the_split(signed):
    found = product_pair(signed, "validation", seeds=(0,)).with_it
    assert np.array_equal(found.rows, np.sort(signed.rows("validation")))
    np.testing.assert_allclose(found.ndcg()[0], ndcg(found.scores[0], found.labels, found.valid).numpy())


@pytest.mark.usefixtures("_own_cache")
def test_an_item_that_recurs_is_one_witness_of_a_product():
    """A picture of noise, by which a fusion may know an item again: three products of it would be confirmed, were
    its sixteen lists sixteen witnesses."""
    recurring = "queries=1500&candidates=10&item_reuse=16&visual_hash=1&visual_width=48&visual_coding=linear"
    data = open_dataset(f"planted:seed-case?{recurring}")
    rows = np.sort(data.rows("train"))
    found = screen_products(data, rows, fit_columns(data, rows, modalities=("visual",), with_context=False))
    assert found.count == 0


def test_sparse_columns_hold_a_sign_code_too(signed, monkeypatch):
    """Of a column that is mostly 0, such as a bag of visual words, the cut lies above 0."""
    sparse = np.maximum(np.asarray(signed.item_features["visual"]) - 0.2, 0.0)
    assert ((sparse == 0).mean(0) > 0.5).mean() > 0.5
    features = dict(signed.item_features) | {"visual": sparse}
    view = SimpleNamespace(
        item_features=features, rows=signed.rows, judged_item=signed.judged_item, documents=signed.documents
    )
    signal = sign_signal(view, "visual", 0)
    assert np.isfinite(signal).all()
    assert signal.std() == pytest.approx(1.0, abs=0.1)


def test_what_a_plant_is_worth_is_told_of_the_lists_that_are_read(nothing):
    """Lists of three candidates hold less of a signal than lists of twelve: the best probe finds no more than that."""
    tables = {name: pq.read_table(f"{nothing.location}/{name}.parquet") for name in ("items", "queries", "judgements")}
    split = dict(zip(*(tables["queries"][name].to_pylist() for name in ("query_id", "split")), strict=True))
    place: dict[str, int] = {}
    kept = []
    for query in tables["judgements"]["query_id"].to_pylist():
        place[query] = place.get(query, 0) + 1
        kept.append(split[query] != "test" or place[query] <= 3)
    tables["judgements"] = tables["judgements"].filter(kept)
    short = open_dataset(**tables)
    whole, cut = (plant_signal(data, worth=0.06, seed=1, split="test") for data in (nothing, short))
    assert [whole.worth, cut.worth] == pytest.approx([0.06] * 2, abs=0.006)  # on training lists, which are alike
    assert whole.worth_there == pytest.approx(0.06, abs=0.025)
    assert cut.worth_there < 0.5 * whole.worth_there
    found = Power(probe="x", plants=(cut,), gain=Interval(0.8 * cut.worth_there, 0.001, 0.1))
    assert found.counts
