"""Copies of training queries are caught; queries that recur over other items, and lists that many share, are legal."""

import numpy as np
import pandas as pd
import pytest

from fusion_models.data import open_dataset
from fusion_models.integrity import copies_check, isolation_checks

NOUNS = "sofa lamp chair table shelf mirror carpet curtain vase clock stool desk bench cabinet basket candle"
WORDS = NOUNS.split()


def texts(tables):
    random = np.random.default_rng(0)
    return [" ".join(random.choice(WORDS, 3, replace=False)) for _ in range(len(tables["queries"]))]


def of(tables, split):
    return tables["queries"].index[tables["queries"]["split"] == split].tolist()


def copy_lists(tables, pairs, *, new_ids, first=8):
    """The second query of each pair gets the candidates of the first: the same items, or copies under its own ids.

    `first`: of how many places; the others keep what they had.
    """
    judged, items = tables["judgements"], tables["items"].set_index("item_id")
    names = tables["queries"]["query_id"]
    for known, held_out in pairs:
        mine, its = judged["query_id"] == names[held_out], judged["query_id"] == names[known]
        mine, its = judged.index[mine][:first], judged.index[its][:first]
        source = judged.loc[its, "item_id"].tolist()
        judged.loc[mine, "label"] = judged.loc[its, "label"].to_numpy()
        if new_ids:
            for modality in ("visual", "text", "metadata"):
                for old, new in zip(source, judged.loc[mine, "item_id"], strict=True):
                    items.at[new, modality] = np.float32(items.at[old, modality]) * 1.0001
        else:
            judged.loc[mine, "item_id"] = source
    tables["items"] = items.reset_index()


@pytest.mark.parametrize("new_ids", [False, True])
@pytest.mark.parametrize("rewrite", [lambda t: f"{t} cheap", lambda t: f"{t}s", lambda t: t])
def test_a_training_query_plus_a_word_with_its_candidates_is_a_copy(tables, written, new_ids, rewrite):
    text = texts(tables)
    pairs = list(zip(of(tables, "train")[:12], of(tables, "test")[:12], strict=True))
    for known, held_out in pairs:
        text[held_out] = rewrite(text[known])
    tables["queries"]["text"] = text
    copy_lists(tables, pairs, new_ids=new_ids)
    found = copies_check(written(tables), "test")
    assert (found.status, found.counts) == ("fail", True)
    assert found.value == pytest.approx(1 - 12 / 90)
    assert "12 of 90" in found.detail


def pairs_check(data):
    return next(check for check in isolation_checks(data, "test") if check.name.endswith("judged pairs"))


def cheaper(tables, pairs):
    """Each pair's second query says what the first one says, and a word more."""
    text = texts(tables)
    for known, held_out in pairs:
        text[held_out] = f"{text[known]} cheap"
    tables["queries"]["text"] = text


@pytest.mark.parametrize("new_ids", [False, True])
def test_a_list_that_is_a_part_of_a_training_list_is_a_copy(tables, written, new_ids):
    """`red shoes` has eight candidates, `red shoes cheap` four of them: half of all, but nothing new."""
    pairs = list(zip(of(tables, "train")[:12], of(tables, "test")[:12], strict=True))
    cheaper(tables, pairs)
    copy_lists(tables, pairs, new_ids=new_ids, first=4)
    judged, names = tables["judgements"], tables["queries"]["query_id"]
    for _, held_out in pairs:
        judged = judged.drop(judged.index[judged["query_id"] == names[held_out]][4:])
    tables["judgements"] = judged
    data = written(tables)
    found = copies_check(data, "test")
    assert (found.status, found.value) == ("fail", pytest.approx(1 - 12 / 90))
    assert pairs_check(data).status == "fail"


def test_pairs_that_recur_under_a_query_that_says_the_same_are_no_new_pairs(tables, written):
    pairs = list(zip(of(tables, "train")[:12], of(tables, "test")[:12], strict=True))
    cheaper(tables, pairs)
    copy_lists(tables, pairs, new_ids=False, first=5)
    data = written(tables)
    assert copies_check(data, "test").status == "pass"
    assert pairs_check(data).status == "fail"
    assert pairs_check(data).value == pytest.approx(1 - 12 * 5 / (90 * 8))


def test_a_few_items_under_a_query_of_the_same_words_are_legal(tables, written):
    pairs = list(zip(of(tables, "train")[:12], of(tables, "test")[:12], strict=True))
    cheaper(tables, pairs)
    copy_lists(tables, pairs, new_ids=False, first=3)
    data = written(tables)
    assert copies_check(data, "test").status == "pass"
    assert pairs_check(data).status == "pass"


def test_paraphrases_of_one_query_are_no_common_list(tables, written):
    """Each training query stands seven times in other words, with one list; the eighth is a test query."""
    text, train, test = texts(tables), of(tables, "train"), of(tables, "test")[:12]
    for place, held_out in enumerate(test):
        for copy, row in enumerate(train[7 * place : 7 * place + 7]):
            text[row] = f"{text[held_out]} {WORDS[copy]}"
    tables["queries"]["text"] = text
    pairs = [(held_out, row) for n, held_out in enumerate(test) for row in train[7 * n : 7 * n + 7]]
    copy_lists(tables, pairs, new_ids=False)
    assert copies_check(written(tables), "test").value == pytest.approx(1 - 12 / 90)


def test_queries_whose_own_text_is_missing_are_copies_by_their_candidates(tables, written):
    pairs = list(zip(of(tables, "train")[:12], of(tables, "test")[:12], strict=True))
    text = texts(tables)
    for rows in pairs:
        for row in rows:
            text[row] = None
    tables["queries"]["text"] = pd.Series(text, dtype=object)
    copy_lists(tables, pairs, new_ids=False)
    assert copies_check(written(tables), "test").value == pytest.approx(1 - 12 / 90)


def test_queries_without_text_or_features_are_copies_by_their_candidates(tables, written):
    copy_lists(tables, list(zip(of(tables, "train")[:12], of(tables, "test")[:12], strict=True)), new_ids=True)
    assert copies_check(written(tables), "test").status == "fail"


def test_a_query_that_recurs_over_other_items_is_legal(tables, written):
    tables["queries"]["text"] = [f"word {n % 5}" for n in range(len(tables["queries"]))]
    assert copies_check(written(tables), "test").status == "pass"


def test_other_queries_over_the_same_items_are_legal(tables, written):
    text = texts(tables)
    pairs = list(zip(of(tables, "train")[:12], of(tables, "test")[:12], strict=True))
    for place, (known, held_out) in enumerate(pairs):
        text[known], text[held_out] = f"{WORDS[place]} red", f"{WORDS[-place - 1]} blue"
    tables["queries"]["text"] = text
    copy_lists(tables, pairs, new_ids=False)
    assert copies_check(written(tables), "test").status == "pass"


def test_one_list_for_all_queries_says_nothing(tables, written):
    names = tables["judgements"]["item_id"]
    tables["judgements"]["item_id"] = [names[n % 8] for n in range(len(names))]
    tables["queries"]["text"] = [f"query {n}" for n in range(len(tables["queries"]))]
    assert copies_check(written(tables), "test").status == "pass"


def test_clean_data_pass_and_validation_is_only_reported(healthy):
    assert copies_check(healthy, "test").status == "pass"
    assert copies_check(healthy, "validation", reported=True).status == "reported"
    assert copies_check(open_dataset("planted?queries=400&candidates=12"), "test").value == 1.0
