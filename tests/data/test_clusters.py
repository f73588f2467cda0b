"""Which queries stand together in an interval."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fusion_models.data import open_dataset
from fusion_models.data.clusters import Held, query_clusters, shared_clusters


def together(clusters):
    return {tuple(np.flatnonzero(clusters == g).tolist()) for g in np.unique(clusters)}


def test_each_query_goes_to_its_most_frequent_word():
    held = [["dog"], ["dog", "red"], ["red", "cat"], ["sea"], [], ["dog"]]
    assert together(shared_clusters(Held.of(held), most=99)) == {(0, 1, 5), (2,), (3,), (4,)}


def test_a_word_that_everybody_holds_joins_nobody_who_holds_another():
    held = [["for", "dog"], ["for", "dog"], ["for", "cat"], ["for", "sea"], ["for"]]
    assert together(shared_clusters(Held.of(held), most=99)) == {(0, 1, 2, 3, 4)}
    assert together(shared_clusters(Held.of(held), most=3)) == {(0, 1), (2,), (3,), (4,)}


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=3), min_size=1, max_size=12), st.randoms())
def test_the_order_of_queries_and_words_plays_no_part(held, random):
    order = list(range(len(held)))
    random.shuffle(order)
    mixed = shared_clusters(Held.of([random.sample(held[i], len(held[i])) for i in order]), most=4)
    plain = together(shared_clusters(Held.of(held), most=4))
    assert {tuple(sorted(order[i] for i in group)) for group in together(mixed)} == plain
    for group in plain:
        assert len(group) == 1 or set.intersection(*(set(held[i]) for i in group))


def test_a_dataset_groups_by_words_or_else_by_relevant_items(columns, write, tmp_path):
    columns["queries"]["split"] = ["train", "test", "validation", "test"]
    assert query_clusters(open_dataset(write(columns)), "test") is None  # i2 and i3 against i5 and i1: nothing shared
    columns["judgements"]["item_id"][7] = "i0"  # judged for dog, too, but not relevant there
    assert query_clusters(open_dataset(write(columns)), "test") is None
    columns["judgements"]["item_id"][7] = "i3"
    clusters = query_clusters(open_dataset(write(columns)), "test")
    assert clusters is not None
    assert clusters[0] == clusters[1]
    columns["queries"]["text"] = ["a cat", "a dog", "car", "sun"]
    assert query_clusters(open_dataset(write(columns)), "test") is None
    for red, again in (("red", "Red"), ("λόγος", "ΛΌΓΟΣ")):  # the last sigma of a word has a form of its own
        columns["queries"]["text"] = ["a cat", f"{red} dog", "car", f"{again} sun"]
        assert together(query_clusters(open_dataset(write(columns)), "test")) == {(0, 1)}
