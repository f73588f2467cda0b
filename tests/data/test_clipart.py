"""The bundled catalogue: what the data card promises, read from the tables alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import fusion_models.data

FOLDER = Path(fusion_models.data.__file__).parent / "clipart"
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    return {name: pq.read_table(FOLDER / f"{name}.parquet").to_pandas() for name in ("items", "queries", "judgements")}


@pytest.fixture(scope="module")
def judged(tables: dict[str, Any]) -> Any:
    return tables["judgements"].merge(tables["queries"][["query_id", "split", "subdomain"]], on="query_id")


def test_bundle_is_under_twenty_megabytes() -> None:
    assert sum(f.stat().st_size for f in FOLDER.iterdir()) < 20_000_000


def test_columns_are_those_of_the_contract_and_no_author_or_keyword_is_stored(tables: dict[str, Any]) -> None:
    assert set(tables["items"]) == {"item_id", "title", "visual", "text", "metadata", "image", "group"}
    assert set(tables["queries"]) == {"query_id", "text", "subdomain", "split", "features"}
    assert set(tables["judgements"]) == {"query_id", "item_id", "label", "v1_score"}


@pytest.mark.parametrize("column", ["visual", "text", "metadata"])
def test_features_have_one_width_and_are_finite(tables: dict[str, Any], column: str) -> None:
    rows = np.stack(tables["items"][column].to_list())
    assert rows.ndim == 2
    assert np.isfinite(rows).all()


def test_query_features_live_in_the_titles_space(tables: dict[str, Any]) -> None:
    assert np.stack(tables["queries"]["features"]).shape[1] == len(tables["items"]["text"][0])


def test_ids_are_unique_and_every_judgement_points_at_them(tables: dict[str, Any]) -> None:
    items, queries, judgements = tables["items"], tables["queries"], tables["judgements"]
    assert items["item_id"].is_unique
    assert queries["query_id"].is_unique
    assert set(judgements["item_id"]) <= set(items["item_id"])
    assert set(judgements["query_id"]) == set(queries["query_id"])
    assert not judgements.duplicated(["query_id", "item_id"]).any()


def test_labels_are_graded_zero_to_two_and_scores_finite(tables: dict[str, Any]) -> None:
    assert set(tables["judgements"]["label"].unique()) == {0.0, 1.0, 2.0}
    assert np.isfinite(tables["judgements"]["v1_score"]).all()


@pytest.mark.parametrize("key", ["item_id", "group"])
def test_splits_share_no_item_and_no_group(tables: dict[str, Any], judged: Any, key: str) -> None:
    rows = judged.merge(tables["items"][["item_id", "group"]], on="item_id")
    held = [set(rows.loc[rows["split"] == split, key]) for split in SPLITS]
    assert all(held)
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]


def test_no_thumbnail_is_in_two_splits(tables: dict[str, Any], judged: Any) -> None:
    items = tables["items"].assign(pixels=[hash(b) for b in tables["items"]["image"]])
    rows = judged.merge(items[["item_id", "pixels"]], on="item_id")
    assert rows.groupby("pixels")["split"].nunique().max() == 1


def test_enough_queries_have_a_relevant_item(judged: Any) -> None:
    best = judged.groupby(["split", "query_id"])["label"].max()
    relevant = (best > 0).groupby("split").sum()
    assert relevant["test"] >= 500
    assert relevant["validation"] >= 300


def test_unseen_words_are_in_no_training_query(tables: dict[str, Any]) -> None:
    queries = tables["queries"]
    seen = {word for text in queries.loc[queries["split"] == "train", "text"] for word in text.split()}
    unseen = queries[queries["subdomain"] == "unseen"]
    assert (unseen["split"] == "test").sum() >= 20
    assert all(not seen & set(text.split()) for text in unseen["text"])
    known = queries[queries["subdomain"] != "unseen"]
    assert all(set(text.split()) <= seen for text in known["text"])


def test_thumbnails_decode_to_one_size(tables: dict[str, Any]) -> None:
    sizes = {Image.open(io.BytesIO(image)).convert("RGB").size for image in tables["items"]["image"]}
    assert sizes == {(64, 64)}


def test_queries_recur_across_splits(tables: dict[str, Any]) -> None:
    texts = {split: set(part["text"]) for split, part in tables["queries"].groupby("split")}
    assert len(texts["train"] & texts["test"]) >= 100


def test_no_candidate_order_gives_the_label_away(judged: Any) -> None:
    place = judged.groupby("query_id").cumcount()
    assert abs(np.corrcoef(place, judged["label"])[0, 1]) < 0.02


def test_text_features_are_a_function_of_the_title_alone(tables: dict[str, Any]) -> None:
    by_title = tables["items"].assign(text=tables["items"]["text"].map(np.asarray)).groupby("title")["text"]
    shared = [np.stack(rows.to_list()) for _, rows in by_title if len(rows) > 1]
    assert len(shared) >= 50
    assert max(float(np.abs(rows - rows[0]).max()) for rows in shared) < 1e-3


def test_metadata_stays_the_same_when_keywords_and_folder_change() -> None:
    from dataclasses import replace

    from fusion_models.data.clipart_build.catalogue import DRAWN, Picture
    from fusion_models.data.clipart_build.embed import METADATA, metadata_features

    picture = Picture(
        path=Path("animals/dog.svg"), title="Rex", keywords=frozenset({"dog"}), author="a", year=2005, month=3,
        shapes=dict.fromkeys(DRAWN, 2), groups=1, gradients=0, colours=3, bytes=2000,
    )  # fmt: skip
    other = replace(picture, path=Path("food/soup.svg"), keywords=frozenset({"soup"}), title="Minestrone")
    features = metadata_features(picture, 4, 0.1)
    assert features.shape == (len(METADATA),)
    assert np.array_equal(features, metadata_features(other, 4, 0.1))


def test_grades_count_the_query_words_a_picture_carries() -> None:
    from fusion_models.data.clipart_build.queries import grade

    assert grade(("dog",), frozenset({"dog", "cat"})) == 2
    assert grade(("dog", "red"), frozenset({"dog", "red"})) == 2
    assert grade(("dog", "red"), frozenset({"red"})) == 1
    assert grade(("dog", "red"), frozenset({"cat"})) == 0


def test_titles_lose_their_authors_name() -> None:
    from fusion_models.data.clipart_build.catalogue import _without_author, words

    assert _without_author("Clipart by Some Body - flag", "some body") == "flag"
    assert _without_author("Blue house by Some Body", "some body") == "Blue house"
    assert words("Two Red Butterflies_01") == ["two", "red", "butterfly"]
