"""Features on any scale, and of any width, are compared in their own deviations."""

import numpy as np
import pytest

from fusion_models.data.views.alike import alike_items, same_items
from fusion_models.data.views.relabelled import query_content
from fusion_models.integrity import isolation_checks
from fusion_models.metrics import near_duplicates, rounded
from fusion_models.models.products import ProductUnits
from fusion_models.probes.columns import fit_columns

SMALL, LARGE = 1e-6, 1e7


def scaled(tables, scale):
    """Item and query features times `scale`, one item's features under another id too, and two queries that are one."""
    random = np.random.default_rng(0)
    queries = random.standard_normal((len(tables["queries"]), 6))
    queries[1] = queries[0]
    tables["queries"]["features"] = list(scale * queries)
    for modality in ("visual", "text", "metadata"):
        features = scale * np.stack(tables["items"][modality].to_numpy()).astype(np.float64)
        features[1] = features[0]
        tables["items"][modality] = list(features)
    return tables


@pytest.mark.parametrize("scale", [SMALL, 1.0, LARGE])
def test_what_is_equal_is_so_on_every_scale(tables, written, scale):
    data = written(scaled(tables, scale))
    items = data.counts["items"]
    assert len(set(query_content(data))) == len(data.candidates) - 1
    for found in (alike_items(data), same_items(data)):
        assert len(np.unique(found)) == items - 1
        assert found[0] == found[1]
    checks = isolation_checks(data, "test")
    assert {check.status for check in checks} <= {"pass", "reported"}
    assert all(check.value == 1.0 for check in checks)
    assert all(fit_columns(data, data.rows("train"), modalities=(m,)).scale.all() for m in data.schema.modalities)


def test_a_column_varies_on_its_own_scale():
    mean, std = np.array([1e-9, 5.0, 1e8]), np.array([1e-9, 1.0, 1e-3])
    assert (ProductUnits(mean, std, 2).scale > 0).tolist() == [True, True, False]


def test_rounding_is_in_deviations():
    std = np.tile([1.0, 1e-6], 4)
    near, far = (1.0 + 1e-4) * std, (1.0 + 1e-2) * std
    assert np.array_equal(rounded(std, std), rounded(near, std))
    assert not np.array_equal(rounded(std, std), rounded(far, std))
    assert not np.array_equal(rounded(std[:2], std[:2]), rounded(near[:2], std[:2]))
    assert rounded(-1e-9 * std, std).tobytes() == np.zeros(8).tobytes()


@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_a_direction_of_few_columns_makes_no_copies(width):
    random = np.random.default_rng(0)
    train, held_out = random.standard_normal((3_000, width)), random.standard_normal((400, width))
    held_out[:5] = train[:5]
    found = near_duplicates(train, held_out)
    assert found[:5].all()
    assert found[5:].mean() < 0.01


@pytest.mark.parametrize("width", [1, 2, 3])
def test_narrow_modalities_of_a_dataset_split_by_item_are_clean(tables, written, width):
    tables["queries"]["text"] = [f"word {n % 5}" for n in range(len(tables["queries"]))]
    random = np.random.default_rng(0)
    for modality in ("visual", "text"):
        tables["items"][modality] = list(random.standard_normal((len(tables["items"]), width)))
    found = isolation_checks(written(tables), "test")
    assert {check.status for check in found} <= {"pass", "reported"}
    assert any("items must be new" in check.detail for check in found)
