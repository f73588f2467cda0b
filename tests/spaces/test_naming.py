"""The roadmap's phases for a dataset of other modalities."""

import dataclasses

import pytest

from fusion_models.config import Recipe
from fusion_models.modalities import MODALITIES, SUSPECT
from spaces import PHASES, ROADMAP_STEPS, departures, for_dataset, parameters, phase_from_plain, phase_to_plain

FOUR = ("visual", "text", "metadata", "clicks")
WORDS = ("visual", "image")


@pytest.mark.parametrize("name", ROADMAP_STEPS)
def test_the_default_dataset_has_the_roadmap_s_phases_themselves(name):
    assert for_dataset(ROADMAP_STEPS[name], MODALITIES, SUSPECT) is ROADMAP_STEPS[name]


@pytest.mark.parametrize("name", ROADMAP_STEPS)
@pytest.mark.parametrize(("modalities", "suspect"), [(FOUR, "clicks"), (("text", "clicks"), "text"), (FOUR, "visual")])
def test_a_phase_goes_by_the_suspect_s_name(name, modalities, suspect):
    phase = for_dataset(ROADMAP_STEPS[name], modalities, suspect)
    assert (phase.suspect, phase.base.suspect) == (suspect, suspect)
    assert phase.base.model.modalities == phase.base.model.of_dataset == modalities
    partner = next(m for m in modalities if m != suspect)
    assert {m: phase.base.model.tokens(m) for m in modalities} == dict.fromkeys(modalities, 1) | {partner: 12}
    assert f"{suspect}_masking_drop" in [o.name for o in phase.objectives]
    assert f"{suspect}_masking_drop" in [g.quantity for g in phase.resume_gates]
    if suspect != "visual":
        said = [
            *(k for k in phase.ranges if not k.endswith("_tokens")),
            *phase.ablatable,
            *(g.name for g in (*phase.gates, *phase.resume_gates)),
        ]
        assert not [text for text in said for word in WORDS if word in text.split(".")[-1].replace("_", " ").split()]
    assert phase.ranges.keys() <= phase.base.flat().keys()
    for recipe in phase.known_recipes().values():
        parameters(phase.ranges, recipe.flat(), phase.base.flat())
        assert Recipe.from_flat(recipe.flat()) == recipe
    assert phase_from_plain(phase_to_plain(phase)) == phase
    assert not departures(phase)
    if suspect == SUSPECT:
        assert for_dataset(phase, MODALITIES, SUSPECT) == ROADMAP_STEPS[name]


@pytest.mark.parametrize(("modalities", "low", "high", "first"), [(("a", "b"), 0.3, 0.6, 0.9), (FOUR, 0.15, 0.3, 0.45)])
def test_limits_on_shares_keep_their_distance_from_an_even_share(modalities, low, high, first):
    """0.20 to 0.40 of three modalities are 0.6 to 1.2 times an even share, and could never hold of two."""
    phase3 = for_dataset(PHASES["phase3"], modalities, modalities[0])
    gates = {g.quantity: g for g in phase3.gates}
    assert (gates["attention_min_share"].at_least, gates["attention_max_share"].at_most) == (low, high)
    assert next(o.bound for o in phase3.objectives if o.name == "attention_max_share") == high
    (gate,) = [
        g for g in for_dataset(PHASES["phase1"], modalities, modalities[0]).gates if g.quantity == "attention_max_share"
    ]
    assert gate.at_most == first


def test_v1_is_taken_to_read_what_the_dataset_has():
    assert for_dataset(PHASES["phase1"], FOUR, "clicks").v1_reads == ("text", "metadata")
    phase = for_dataset(PHASES["phase1"], ("picture", "clicks"), "clicks")
    assert (phase.v1_reads, phase.base.model.context_reads) == ((), ("v1",))


def test_what_a_dataset_lacks_is_refused():
    with pytest.raises(ValueError, match=r"suspect must be a modality of the dataset \(text, clicks\), got 'visual'"):
        for_dataset(PHASES["phase1"], ("text", "clicks"), "visual")
    with pytest.raises(ValueError, match="v1_reads names 'sound', which is no modality of the dataset"):
        dataclasses.replace(PHASES["phase1"], v1_reads=("sound",))
    with pytest.raises(ValueError, match="two modalities are needed"):
        for_dataset(PHASES["phase1"], ("text",), "text")


def test_limits_on_shares_follow_the_modalities_that_the_ranker_reads():
    """Of two modalities the larger share is at least 0.5: a limit of 0.40 could never hold."""
    phase = PHASES["phase3"].with_base({"model.modalities": "visual+text"})
    gates = {g.quantity: g for g in phase.gates}
    assert (gates["attention_min_share"].at_least, gates["attention_max_share"].at_most) == (0.3, 0.6)
    assert next(o.bound for o in phase.objectives if o.name == "attention_max_share") == 0.6
    assert not departures(phase)
    assert PHASES["phase3"].with_base({"train.epochs": 2}).gates == PHASES["phase3"].gates
