"""All the ways in which queries stand together in an interval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_models.data import crossed_clusters as crossed_module
from fusion_models.data import open_dataset
from fusion_models.data.clusters import Held
from fusion_models.data.crossed_clusters import ALIKE, alike, crossed_clusters, few_pairs, shared_things
from fusion_models.metrics import query_interval


def pairs(held):
    """Which queries have a thing in common."""
    own = [set(things.tolist()) for things in np.split(held.things, held.starts[1:-1])]
    return {(i, j) for i in range(len(own)) for j in range(i) if own[i] & own[j]}


def test_a_query_of_two_words_stands_with_those_of_either():
    held = [["dog"], ["dog", "red"], ["red", "cat"], ["sea"], [], ["dog"]]
    found = shared_things(Held.of(held), most=99)
    assert pairs(found) == {(1, 0), (5, 0), (5, 1), (2, 1)}
    assert np.diff(found.starts).tolist() == [1, 2, 1, 0, 0, 1]


def test_a_word_that_everybody_holds_joins_nobody():
    held = [["for", "dog"], ["for", "dog"], ["for", "cat"], ["for", "sea"], ["for"]]
    assert pairs(shared_things(Held.of(held), most=4)) == {(1, 0)}


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), min_size=1, max_size=12), st.randoms())
def test_pairs_are_those_that_share_and_order_plays_no_part(held, random):
    counts = {thing: sum(thing in query for query in held) for thing in "abcdef"}
    telling = {thing for thing, count in counts.items() if 2 <= count <= 5}
    expected = {(i, j) for i in range(len(held)) for j in range(i) if set(held[i]) & set(held[j]) & telling}
    assert pairs(shared_things(Held.of(held), most=5)) == expected
    order = list(range(len(held)))
    random.shuffle(order)
    mixed = pairs(shared_things(Held.of([random.sample(held[i], len(held[i])) for i in order]), most=5))
    assert {tuple(sorted((order[i], order[j]), reverse=True)) for i, j in mixed} == expected


def standing(ties):
    """The pairs that stand together, each once."""
    rows, columns = ties.pairs.nonzero()
    return {(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if i > j}


def test_a_dataset_crosses_words_and_relevant_items(columns, write):
    columns["queries"]["split"] = ["train", "test", "validation", "test"]
    assert crossed_clusters(open_dataset(write(columns)), "test") is None  # i2 and i3 against i1: nothing shared
    columns["queries"]["text"] = ["a cat", "red dog", "car", "Red sun"]
    by_words = crossed_clusters(open_dataset(write(columns)), "test")
    assert standing(by_words) == {(1, 0)}
    assert by_words.main.tolist() == [0, 0]
    columns["queries"]["text"] = ["a cat", "dog", "car", "sun"]
    columns["judgements"]["item_id"][7] = "i3"  # relevant for both
    by_items = crossed_clusters(open_dataset(write(columns)), "test")
    assert standing(by_items) == {(1, 0)}
    assert by_items.main.tolist() == [-1, -1]
    columns["judgements"]["label"][7] = 0.0  # judged for both, relevant for one
    assert crossed_clusters(open_dataset(write(columns)), "test") is None


def test_one_relevant_item_among_many_in_common_joins_nobody():
    """Queries of 20 relevant items with one in common stand apart; with two, together."""
    held = [list(range(20)), [0, *range(20, 39)], [0, 1, *range(40, 58)], []]
    found = alike(Held.of(held), ALIKE).toarray()
    assert found[1, 0] == 0.0
    assert found[2, 0] == pytest.approx(0.1)
    assert not found[3].any()
    assert alike(Held.of(held)).toarray()[1, 0] == pytest.approx(0.05)


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=9), st.sampled_from([0.0, 0.3, 0.5]))
def test_cosines_are_those_of_sets(held, least):
    sets = [set(row) for row in held]
    cosine = np.array([[len(a & b) / max(1, len(a) * len(b)) ** 0.5 for b in sets] for a in sets])
    np.testing.assert_allclose(alike(Held.of(held), least).toarray(), np.where(cosine >= least - 1e-9, cosine, 0.0))


def test_too_many_pairs_leave_out_what_the_most_queries_hold(monkeypatch):
    monkeypatch.setattr(crossed_module, "MOST_PAIRS", 9)
    held = Held.of(
        [["shoe", "red"], ["shoe", "red"], ["shoe", "dog"], ["shoe", "dog"], ["dog"], ["dog", "sea"], ["sea"]]
    )
    assert pairs(few_pairs(held)) == {(1, 0), (6, 5)}  # "shoe" and "dog", which four hold, are left out


def test_nothing_shared_is_none_and_planted_queries_share_nothing():
    assert crossed_clusters(open_dataset("planted?queries=160&candidates=8"), "test") is None


def test_clipart_intervals_read_it():
    data = open_dataset("clipart")
    found = crossed_clusters(data, "test")
    assert len(found) == len(data.rows("test"))
    values = np.random.default_rng(0).normal(size=len(found))
    crossed, alone = query_interval(values, clusters=found), query_interval(values)
    assert np.isfinite([crossed.low, crossed.high]).all()
    assert crossed.variance.query_df < alone.variance.query_df
