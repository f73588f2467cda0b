"""A dataset on which no ranker can be told from another is refused before anything is trained."""

import numpy as np
import pytest

from fusion_models.data import DataError, open_dataset
from fusion_models.data.readiness import require_rankable


@pytest.fixture
def ready(columns, write):
    """The right dataset with two candidates in its validation query; returns a function that opens it."""
    for name, value in (("query_id", "red car"), ("item_id", "i0"), ("label", 0.0), ("v1_score", 0.1)):
        columns["judgements"][name].append(value)
    return lambda: open_dataset(write(columns))


def test_a_right_dataset_is_ready(ready):
    require_rankable(ready())


@pytest.mark.parametrize(
    ("query", "column", "value", "said"),
    [
        (
            "sun",
            "label",
            0.0,
            "none of the 1 queries of the test split do two candidates differ: nothing",
        ),
        ("sun", "label", 2.0, "of the test split .* different labels"),
        ("red car", "v1_score", 0.3, "of the validation split .* V1 orders nothing there"),
    ],
)
def test_a_split_that_tells_nobody_apart_is_named(query, column, value, said, ready, columns):
    for row, name in enumerate(columns["judgements"]["query_id"]):
        if name == query:
            columns["judgements"][column][row] = value
    with pytest.raises(DataError, match=said):
        require_rankable(ready())


def test_one_telling_query_a_split_is_enough(ready, columns):
    columns["judgements"]["label"] = [0.0 if q == "cat" else v for q, v in zip(*judged(columns), strict=True)]
    require_rankable(ready())


def judged(columns):
    return columns["judgements"]["query_id"], columns["judgements"]["label"]


def test_queries_of_weight_zero_tell_nothing(ready):
    """Else every training would end without a number."""
    data = ready()
    data.weight = np.where(data.split == 1, 0.0, 1.0)
    with pytest.raises(DataError, match="in none of the 0 queries of the validation split"):
        require_rankable(data)
