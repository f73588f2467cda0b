"""Planted data holds what its dials say."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fusion_models.data import DataError, open_dataset
from fusion_models.data.planted import Planted, draw, view
from fusion_models.data.planted.config import SEEN_BY, SHARES, PlantedConfig
from fusion_models.data.planted.presets import PRESETS, planted_config
from fusion_models.data.planted.truth import drawn_shares, read_truth, truth
from fusion_models.modalities import MODALITIES


def explained(features: np.ndarray, target: np.ndarray) -> float:
    """Share of the target's variance that a least-squares readout finds."""
    x = np.column_stack([np.ones(len(features)), features]).astype(np.float64)
    return 1 - float((target - x @ np.linalg.lstsq(x, target, rcond=None)[0]).var() / target.var())


@pytest.mark.parametrize("preset", PRESETS)
def test_the_label_holds_the_dialled_shares(preset: str) -> None:
    planted = draw(PRESETS[preset])
    shares = drawn_shares(planted)
    for name in SHARES:
        assert shares[name] == pytest.approx(planted.config.share(name), abs=0.02)
    assert shares["noise"] == pytest.approx(planted.config.noise_share, abs=0.02)
    assert planted.utility.var() == pytest.approx(1.0, abs=0.05)


def test_features_hold_what_their_modality_sees_and_nothing_else() -> None:
    config = PlantedConfig(visual_noise=0.0, text_noise=0.0, metadata_noise=0.0)
    planted = draw(config)
    for modality in MODALITIES:
        for name in SHARES:
            found = explained(planted.features[modality], planted.signals[name])
            seen = modality in SEEN_BY[name] and name != "synergy"
            assert found == pytest.approx(1.0 if seen else 0.0, abs=0.01)


def test_synergy_is_a_product_that_needs_both() -> None:
    planted = draw(PRESETS["synergy"])
    product = planted.signals["synergy"]
    text, visual = planted.features["text"], planted.features["visual"]
    assert explained(np.column_stack([text, visual]), product) < 0.01
    assert explained(text[:, :1] * visual[:, :1], product) > 0.9


def test_a_sign_code_hides_from_a_linear_readout() -> None:
    planted = draw(PRESETS["seed-case"])
    config, signal, features = planted.config, planted.signals["visual"], planted.features["visual"]
    assert explained(features, signal) < 0.01
    first = config.block * config.signals("visual").index("visual")
    block = features[:, first : first + config.block]
    carriers, values = np.split(block, 2, axis=1)
    assert explained(carriers[:, :1] * values[:, :1], signal) > 0.95
    assert np.abs(block).mean() < 0.15


def test_training_labels_alone_lean_towards_v1() -> None:
    config = dataclasses.replace(PRESETS[""], v1_text=0.0, v1_metadata=0.0, v1_noise=1.0)  # V1 knows nothing

    def association(planted: Planted, split: int) -> float:
        mine = planted.documents_of_split == split
        return float(np.corrcoef(planted.v1[mine], planted.labels[mine])[0, 1])

    straight, leaning = draw(config), draw(dataclasses.replace(config, label_lean=0.4))
    assert abs(association(straight, 0)) < 0.03
    assert association(leaning, 0) > 0.2
    assert abs(association(leaning, 2)) < 0.03
    same = straight.documents_of_split != 0
    np.testing.assert_array_equal(straight.labels[same], leaning.labels[same])


def test_v1_is_built_from_its_weights() -> None:
    planted = draw(dataclasses.replace(PRESETS["seed-case"], v1_text=1.0, v1_metadata=0.4, v1_noise=0.0))
    text = view(planted.config, planted.signals, ("text",))
    metadata = view(planted.config, planted.signals, ("metadata",))
    expected = text / np.sqrt(0.38) + 0.4 * metadata / np.sqrt(0.215)
    assert np.corrcoef(planted.v1, expected)[0, 1] == pytest.approx(1.0)
    assert planted.v1.std() == pytest.approx(1.0)


def test_grades_are_the_quantiles_of_each_query() -> None:
    planted = draw(PlantedConfig())
    for query in range(5):
        mine = planted.query == query
        assert np.bincount(planted.labels[mine]).tolist() == [8, 6, 4, 2]
        if planted.split[query] != 0:
            assert stats.spearmanr(planted.labels[mine], planted.utility[mine]).statistic > 0.9


def test_raw_scales_and_offsets() -> None:
    plain = draw(PRESETS[""]).features["visual"]
    turned = draw(dataclasses.replace(PRESETS[""], visual_scale=10.0, visual_offset=2.0)).features["visual"]
    np.testing.assert_allclose(turned.std(axis=0), 10 * plain.std(axis=0), rtol=1e-4)
    assert 10 < np.abs(turned.mean(axis=0)).mean() < 30


def test_one_seed_gives_the_same_dataset_and_a_dial_leaves_the_other_draws() -> None:
    first, again, other = draw(PlantedConfig()), draw(PlantedConfig()), draw(PlantedConfig(seed=1))
    for modality in MODALITIES:
        np.testing.assert_array_equal(first.features[modality], again.features[modality])
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, other.labels)
    turned = draw(PlantedConfig(visual_noise=1.0))
    np.testing.assert_array_equal(first.features["text"], turned.features["text"])
    np.testing.assert_array_equal(first.labels, turned.labels)


def test_the_truth_orders_subsets_as_the_shares_do() -> None:
    told = {preset: truth(draw(config))["oracle_ndcg"] for preset, config in PRESETS.items()}
    chance = told["no-visual"]["visual"]
    assert told["no-visual"]["visual+text+metadata"] == told["no-visual"]["text+metadata"]
    assert told["redundant"]["visual+text"] == told["redundant"]["text"] == told["redundant"]["visual"]
    alone = {told["synergy"][modality] for modality in MODALITIES}
    assert max(alone) - min(alone) < 1e-9  # all of them scores without information
    assert told["synergy"]["text"] == pytest.approx(chance, abs=0.01)
    assert told["synergy"]["visual+text"] > 0.8
    everything = told["healthy"]["visual+text+metadata"]
    assert all(
        everything > told["healthy"][pair] + 0.05 for pair in ("visual+text", "text+metadata", "visual+metadata")
    )


def test_opening_gives_the_drawn_numbers_in_little_time(tmp_path: Path) -> None:
    began = time.process_time()
    data = open_dataset("planted:seed-case")
    assert time.process_time() - began < 6.0  # 0.8 alone
    planted = draw(PRESETS["seed-case"])
    assert [len(data.rows(split)) for split in ("train", "validation", "test")] == [700, 300, 600]
    batch = data.gather([17])
    mine = planted.query == 17
    np.testing.assert_array_equal(batch.features["visual"][0], planted.features["visual"][mine])
    np.testing.assert_array_equal(batch.labels[0], planted.labels[mine])
    assert read_truth(data.location)["dials"]["share_visual"] == 0.18
    assert len(set(data.subdomain)) == 3


def test_dials_are_read_from_the_source() -> None:
    config = planted_config("planted:healthy?seed=3&queries=2000&grades=0.5,0.5&v1_pair_feature=true&text_scale=1e+1")
    changes = {"seed": 3, "queries": 2000, "grades": (0.5, 0.5), "v1_pair_feature": True, "text_scale": 10.0}
    assert config == dataclasses.replace(PRESETS["healthy"], **changes)
    assert planted_config("planted") == planted_config("planted?seed=0") == PRESETS[""]


def test_ragged_lists_and_v1_as_a_pair_feature() -> None:
    data = open_dataset("planted?queries=50&candidates=20&candidates_spread=0.5&v1_pair_feature=true")
    assert data.candidates.min() < 14
    assert data.candidates.max() > 26
    batch = data.gather(data.rows("train"))
    np.testing.assert_array_equal(batch.context[..., 0], batch.v1.float())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("planted:helthy", "no planted preset 'helthy'. Use one of seed-case"),
        ("planted?share_visul=0.3", "no dial 'share_visul'. Did you mean share_visual"),
        ("planted?seed=x", "the dial seed cannot be 'x'. Give a int"),
        ("planted?share_visual=0.9", "the shares must sum to at most 1"),
        ("planted?queries=2", "each split needs a query"),
        ("planted?visual_coding=odd", "must be linear or sign"),
        ("planted?text_width=3", "text_width must be >= 16 for its blocks"),
        ("planted?v1_text=0&v1_metadata=0&v1_noise=0", "must not be 0"),
        ("planted?block=3", "block must be even"),
    ],
)
def test_a_wrong_dial_is_named(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(source)


def test_a_world_may_have_other_modalities() -> None:
    """Two or four of any name; the draws of those that it shares with a plain world are the same."""
    plain = draw(planted_config("planted?queries=60"))
    config = planted_config("planted?queries=60&modalities=visual,text,metadata,clicks&share_clicks=0.2&clicks_width=8")
    four = draw(config)
    assert [(m, x.shape[1]) for m, x in four.features.items()][-1] == ("clicks", 8)
    assert config.signals("clicks") == ("all", "clicks")
    np.testing.assert_array_equal(four.features["text"], plain.features["text"])
    ill = draw(planted_config("planted?queries=60&modalities=text,clicks&share_clicks=0&share_all=0"))
    assert ill.config.signals("clicks") == ()
    assert ill.config.share("metadata") == ill.config.share("text_visual") == 0.0
    with pytest.raises(DataError, match="no dial 'share_sound'"):
        planted_config("planted?share_sound=0.1")
    with pytest.raises(DataError, match="cannot be called synergy"):
        planted_config("planted?modalities=text,synergy")
