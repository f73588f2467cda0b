"""The dials by which planted queries and items have something in common, and that they leave the presets alone."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest

from fusion_models.data import DataError, open_dataset
from fusion_models.data.clusters import query_clusters
from fusion_models.data.planted import Planted, draw, tables, view
from fusion_models.data.planted.config import PlantedConfig
from fusion_models.data.planted.presets import PRESETS
from fusion_models.data.planted.truth import truth
from fusion_models.integrity.copies import near_copies
from fusion_models.modalities import MODALITIES

BEFORE = {
    "": ("f5d35394a2579c25", (-1.72489, -0.227401, 0.788349)),
    "seed-case": ("9728d7dbd7dd680f", (-1.675956, 0.030968, 1.565068)),
    "no-visual": ("9d0e940120bb5582", (-0.160346, 0.460984, -0.967348)),
    "redundant": ("281726b042a3220a", (-0.697372, 0.066285, -0.995068)),
    "synergy": ("2388d94dd879e742", (-0.263395, -1.133217, -3.107162)),
    "healthy": ("3a275f75db716fb8", (-1.043391, -0.053378, -0.283185)),
}
"""Preset -> hash of features, labels and queries, and V1's first scores, as drawn before anything could recur."""
TEST = 2


def world(**dials: Any) -> Planted:
    return draw(dataclasses.replace(PRESETS["healthy"], queries=400, **dials))


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_what_they_were(preset: str) -> None:
    planted = draw(PRESETS[preset])
    found = hashlib.sha256()
    for values in (*(planted.features[m] for m in MODALITIES), planted.labels, planted.query):
        found.update(values.tobytes())
    digest, scores = BEFORE[preset]
    assert found.hexdigest()[:16] == digest
    np.testing.assert_allclose(planted.v1[:3], scores, atol=1e-6)
    written = tables(planted)
    assert written["items"].column("item_id").to_pylist() == written["judgements"].column("item_id").to_pylist()
    assert written["items"].column("item_id").to_pylist()[:2] == ["q000000-0000", "q000000-0001"]
    assert written["queries"].column_names == ["query_id", "subdomain", "split"]


def test_items_recur_as_often_as_dialled_and_carry_their_signals_with_them() -> None:
    planted = world(item_reuse=10.0)
    times = np.bincount(planted.item)
    assert times.mean() == pytest.approx(10.0, rel=0.02)
    pairs = set(zip(planted.query.tolist(), planted.item.tolist(), strict=True))
    assert len(pairs) == len(planted.query)  # no item twice in one list
    for name in ("text", "visual"):
        low, high = np.full(len(times), np.inf), np.full(len(times), -np.inf)
        np.minimum.at(low, planted.item, planted.signals[name])
        np.maximum.at(high, planted.item, planted.signals[name])
        np.testing.assert_array_equal(low, high)
    assert len(planted.features["visual"]) == len(times)
    first = [planted.utility[planted.item == planted.item[0]].std(), planted.v1[planted.item == planted.item[0]].std()]
    assert min(first) > 0.1  # noise is a judgement's
    assert truth(planted)["recurring_items"] > 0.95
    assert truth(world())["recurring_items"] == 0.0


def test_a_hash_tells_nothing_of_a_new_item_and_names_a_known_one() -> None:
    planted = world(item_reuse=10.0, visual_hash=True)
    image, quality = planted.features["visual"][planted.item].astype(np.float64), planted.signals["visual"]
    held_out = planted.item % 2 == 0
    x = np.column_stack([np.ones(len(image)), image])
    weights = np.linalg.lstsq(x[~held_out], quality[~held_out], rcond=None)[0]
    assert np.corrcoef(x[held_out] @ weights, quality[held_out])[0, 1] < 0.1
    assert len(np.unique(image, axis=0)) == len(np.unique(planted.item))
    means = np.bincount(planted.item, weights=planted.utility) / np.bincount(planted.item)
    assert np.corrcoef(means[planted.item], quality)[0, 1] > 0.4  # what can be learnt by heart
    assert not view(planted.config, planted.signals, ("visual",)).any()
    told = truth(planted)["oracle_ndcg"]
    assert told["visual+text+metadata"] == told["text+metadata"]
    assert told["visual+text+metadata"] < truth(world(item_reuse=10.0))["oracle_ndcg"]["visual+text+metadata"] - 0.03


@pytest.mark.parametrize("width", [20, 32, 50])
def test_a_copied_image_holds_the_text_and_tells_nothing_more(width: int) -> None:
    planted = world(visual_copy=True, visual_width=width, visual_scale=2.0)
    same = min(width, 32)
    np.testing.assert_allclose(planted.features["visual"][:, :same], 2 * planted.features["text"][:, :same])
    assert planted.features["visual"].shape[1] == width
    told = truth(planted)["oracle_ndcg"]
    assert told["visual+text+metadata"] == told["text+metadata"]
    assert told["visual"] == told["text"]


def test_what_v1_reads_of_the_image_the_image_no_longer_adds() -> None:
    def worth(planted: Planted) -> float:
        told = truth(planted)["oracle_ndcg_with_v1"]
        return float(told["visual+text+metadata"] - told["text+metadata"])

    reads = draw(dataclasses.replace(PRESETS["healthy"], v1_visual=1.0, v1_text=0.3, v1_metadata=0.0, v1_noise=0.0))
    assert worth(reads) == pytest.approx(0.0, abs=2e-3)
    assert worth(draw(PRESETS["healthy"])) > 0.05


def test_texts_share_words_of_unlike_frequency_and_cluster() -> None:
    even, zipf = world(shared_words=50), world(shared_words=50, cluster_zipf=1.2)
    counts = []
    for planted in (even, zipf):
        words = [word for text in planted.text or [] for word in text.split()]
        assert len(words) == 2 * 400
        counts.append(np.unique(words, return_counts=True)[1])
    assert len(counts[0]) == 50
    assert counts[0].max() < 40 < 150 < counts[1].max()
    np.testing.assert_array_equal(even.labels, world().labels)  # words alone change nothing
    data = open_dataset("planted:healthy?queries=400&shared_words=50&cluster_zipf=1.2")
    clusters = query_clusters(data, "test")
    assert clusters is not None
    assert data.query_text is not None
    assert data.query_text[0] == (zipf.text or [])[0]
    assert np.bincount(clusters).max() > 5


def test_queries_of_one_word_gain_alike() -> None:
    planted = draw(dataclasses.replace(PRESETS["healthy"], queries=2000, shared_words=20, word_effect=0.7))
    words = np.array([text.split() for text in planted.text or []])
    association = np.zeros(len(words))
    for query in range(len(words)):
        mine = planted.query == query
        association[query] = np.corrcoef(planted.signals["visual"][mine], planted.utility[mine])[0, 1]
    of_word = [association[(words == word).any(axis=1)].mean() for word in np.unique(words)]
    assert np.std(of_word) > 3 * association.std() / np.sqrt(200)
    assert planted.utility.var() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("shift", [0.0, 0.01])
def test_copied_queries_repeat_training_and_are_found(shift: float) -> None:
    dials = {"near_copies": 0.25, "near_copy_shift": shift, "shared_words": 300, "label_lean": 0.5}
    planted = world(**dials)
    text, training = planted.text or [], {}
    for query in np.flatnonzero(planted.split == 0):
        training[text[query]] = query
    copies = [query for query in np.flatnonzero(planted.split == TEST) if text[query].endswith("please")]
    assert len(copies) == planted.repeated == round(0.25 * 180)
    for query in copies:
        mine, known = planted.query == query, planted.query == training[text[query].removesuffix(" please")]
        np.testing.assert_array_equal(planted.labels[mine], planted.labels[known])
        np.testing.assert_array_equal(planted.v1[mine], planted.v1[known])
        assert (set(planted.item[mine]) == set(planted.item[known])) == (shift == 0)
        image = planted.features["visual"]
        moved = np.abs(image[planted.item[mine]] - image[planted.item[known]]).max()
        assert moved == 0 if shift == 0 else 0 < moved < 0.1
    source = "planted:healthy?queries=400&" + "&".join(f"{name}={value}" for name, value in dials.items())
    data = open_dataset(source)
    found = near_copies(data, data.rows("train"), data.rows("test"))
    assert set(found) == {int(row) for row in copies}


def test_copies_leave_every_other_query_as_it_was() -> None:
    plain, copied = world(), world(near_copies=0.5, near_copy_shift=0.02)
    for query in np.flatnonzero(plain.split < TEST)[:50]:
        mine = plain.query == query
        again = copied.query == query
        np.testing.assert_array_equal(plain.labels[mine], copied.labels[again])
        np.testing.assert_array_equal(
            plain.features["text"][plain.item[mine]], copied.features["text"][copied.item[again]]
        )


def test_lost_labels_leave_zeros() -> None:
    plain, sparse = world(), world(label_sparsity=0.8)
    kept = sparse.labels > 0
    assert kept.sum() / (plain.labels > 0).sum() == pytest.approx(0.2, abs=0.02)
    np.testing.assert_array_equal(sparse.labels[kept], plain.labels[kept])
    none = draw(PlantedConfig(queries=200, candidates=6, label_sparsity=0.9))
    assert (np.bincount(none.query, weights=none.labels) == 0).mean() > 0.3
    assert 0 < truth(none)["oracle_ndcg"]["visual+text+metadata"] <= 1


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ("item_reuse=0.5", "item_reuse must be >= 1"),
        ("visual_hash=1&visual_copy=1", "exclude each other"),
        ("shared_words=1", "shared_words must be 0 or >= 2"),
        ("cluster_zipf=1", "cluster_zipf needs shared_words"),
        ("word_effect=0.5", "word_effect needs shared_words"),
        ("shared_words=9&cluster_zipf=-1", "cluster_zipf must be >= 0"),
        ("near_copies=1.5", r"near_copies must be in \[0, 1\]"),
        ("near_copy_shift=0.1", "near_copy_shift needs near_copies"),
        ("label_sparsity=1", r"label_sparsity must be in \[0, 1\)"),
    ],
)
def test_a_wrong_dial_is_named(dials: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(f"planted?{dials}")
