"""A view of a view shows the lists of the one below: cold items stay out of relabelled and sign-planted data."""

import numpy as np
import pytest

from fusion_models.data import open_dataset
from fusion_models.data.views.cold import without_cold
from fusion_models.data.views.relabelled import relabelled
from fusion_models.data.views.sign_planted import sign_planted
from fusion_models.probes import PROBES, probe_power

SOURCE = "planted:healthy?queries=300&candidates=8&item_reuse=8&v1_pair_feature=true"
VIEWS = {
    "permuted": lambda data: relabelled(data, "permuted", 0),
    "random": lambda data: relabelled(data, "random", 0),
    "sign-planted": lambda data: sign_planted(data, "visual", 1.0, 0),
}


@pytest.mark.parametrize("name", VIEWS)
def test_lists_are_those_of_the_view_below(name):
    cut = without_cold(open_dataset(SOURCE))
    view = VIEWS[name](cut)
    assert len(view.labels) == len(cut.labels) < len(open_dataset(SOURCE).labels)
    for field in ("judged_item", "offset", "candidates", "v1"):
        np.testing.assert_array_equal(getattr(view, field), getattr(cut, field))
    for split in ("train", "test"):
        below, above = cut.gather(cut.rows(split)), view.gather(view.rows(split))
        np.testing.assert_array_equal(above.features["visual"], below.features["visual"])
        np.testing.assert_array_equal(above.context, below.context)
        assert above.labels.shape == below.labels.shape


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_is_asked_for_its_power_where_cold_items_left_training(name):
    """It failed, and with it every run of phase 3 in which test items recur."""
    cut = without_cold(open_dataset(SOURCE))
    found = probe_power(cut, "validation", PROBES[name], looks=(1,))
    assert np.isfinite(found.gain.mean)
