"""What a run would refuse of a module's `SPACE` is said before anything starts, by the check and by the phase."""

import re

import pytest

from fusion_models.models.own import OwnModelError, own_model
from fusion_models.own.conformance import conformance
from spaces import PHASES, Choice, Float, Weight, for_dataset, with_own_model
from spaces.ranges import Positive

REFERENCE = "broken_rankers:Searched"
RANGES = "its ranges are of its settings"
RATE = Float(low=1e-4, high=1e-2, log=True)
BAD = {
    "no such key of ours": ({"train.lr": RATE}, "SPACE names 'train.lr', which is no setting .* key of ours"),
    "a near key": ({"train.learning_rat": RATE}, r"did you mean train.learning_rate"),
    "a tuple": ({"width": (8, 16)}, r"SPACE\['width'\] is \(8, 16\); give a Float, a Choice or a Weight"),
    "a class": ({"width": Choice}, r"SPACE\['width'\] is <class .*; give a Float"),
    "numbers between whole ones": ({"width": Float(low=4, high=16)}, "own.width must be a whole number, got 1"),
    "a word among numbers": ({"width": Choice(values=(8, 16, "auto"))}, "own.width must be a int, got 'auto'"),
    "no choice": ({"width": Choice(values=())}, r"a Choice has a tuple of values, got \(\)"),
    "upside down": ({"train.learning_rate": Float(low=1.0, high=0.1)}, "low = 1.0 and high = 0.1 hold no number"),
    "a log of 0": ({"loss.unimodal": Weight(low=0.0, high=0.1)}, "on a log scale hold no number"),
    "beyond what ours takes": ({"train.modality_dropout": Float(low=0.0, high=3.0)}, "a run refuses: .*"),
    "an unknown condition": (
        {"width": Choice(values=(8, 16), when={"widht": (8,)})},
        r"SPACE\['width'\] is asked when 'widht' has some value, .*did you mean width",
    ),
    "a condition that never holds": (
        {"loss.unimodal": Weight(low=0.1, high=0.5, when={"width": ()})},
        "which it never is",
    ),
}
GOOD = {
    "of its own": {"width": Choice(values=(4, 8))},
    "of ours": {"width": Choice(values=(8,)), "train.learning_rate": Float(low=1e-4, high=1e-2, log=True)},
    "on a condition": {
        "loss.unimodal": Weight(low=0.1, high=0.5),
        "train.modality_dropout": Float(low=0.0, high=0.3, when={"loss.unimodal": Positive(), "width": (8,)}),
    },
    "on a weight that the phase searches": {
        "train.modality_dropout": Float(low=0.0, high=0.3, when={"loss.unimodal": Positive()}),
    },
    "on a weight of ours that nobody searches": {
        "train.modality_dropout": Float(low=0.0, high=0.3, when={"train.gradient_modulation": Positive()}),
    },
    "of another suspect": {"loss.text_importance": Weight(low=0.1, high=0.5)},
}


@pytest.fixture
def given(monkeypatch):
    """Gives the module a SPACE."""

    def give(space):
        import broken_rankers

        monkeypatch.setattr(broken_rankers.Searched, "SPACE", space, raising=False)
        own_model.cache_clear()

    yield give
    own_model.cache_clear()


def failures(data):
    return " ".join(next(found for found in conformance(REFERENCE, data) if found.name == RANGES).failures)


@pytest.mark.parametrize("name", BAD)
def test_what_a_run_would_refuse_is_said_by_both(name, given, small_data):
    space, said = BAD[name]
    given(space)
    with pytest.raises(OwnModelError, match=said) as caught:
        with_own_model(PHASES["phase3"], REFERENCE)
    assert "\n" not in str(caught.value)
    assert re.search(said, failures(small_data))


def test_a_default_outside_its_range_is_told_by_the_check(given, small_data):
    given({"width": Choice(values=(16, 32))})
    assert "the default lies outside SPACE: own.width = 8 is not among (16, 32)" in failures(small_data)


def test_values_are_tried_under_a_weight_that_the_phase_searches(given):
    given({"train.modality_dropout": Float(low=0.0, high=3.0, when={"loss.unimodal": Positive()})})
    with pytest.raises(OwnModelError, match="a run refuses"):
        with_own_model(PHASES["phase1"], REFERENCE)


@pytest.mark.parametrize("name", GOOD)
def test_what_a_run_takes_passes(name, given, small_data):
    given(GOOD[name])
    assert failures(small_data) == ""
    phase = PHASES["phase3"]
    if name == "of another suspect":
        with pytest.raises(OwnModelError, match=r"SPACE names 'loss.text_importance', which is no setting"):
            with_own_model(phase, REFERENCE)
        phase = for_dataset(phase, ("visual", "text", "metadata"), "text")
    elif name == "on a weight that the phase searches":
        phase = PHASES["phase1"]
        assert "loss.unimodal" in phase.ranges
    assert set(GOOD[name]) <= {key.removeprefix("own.") for key in with_own_model(phase, REFERENCE).ranges}
