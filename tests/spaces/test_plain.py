"""A phase that is written down comes back as it was, through JSON."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_models.config import Recipe
from fusion_models.modalities import MODALITIES, SUSPECT
from fusion_models.quantities import known_names, objective_names
from spaces import ROADMAP_STEPS, Choice, Float, Gate, Objective, Phase, Weight, phase_from_plain, phase_to_plain
from spaces.ranges import Positive
from spaces.thresholds import Thresholds

numbers = st.floats(-1e6, 1e6, allow_nan=False)
positive = st.floats(1e-9, 1e6)
names = st.text(min_size=1, max_size=12)
values = st.one_of(st.booleans(), st.integers(-9, 9), numbers, names)
KEYS = sorted(Recipe().flat())
whens = st.dictionaries(
    st.sampled_from([key for key in KEYS if key.startswith("loss.")]),
    st.one_of(st.just(Positive()), st.lists(values, min_size=1, max_size=3).map(tuple)),
    max_size=2,
)
ranges = st.one_of(
    st.builds(Float, low=numbers, high=numbers, log=st.booleans(), when=whens),
    st.builds(Weight, low=positive, high=positive, when=whens),
    st.builds(Choice, values=st.lists(values, min_size=1, max_size=4).map(tuple), when=whens),
)
measured = st.sampled_from(known_names(Recipe().model.modalities))
objectives = st.builds(
    Objective,
    name=st.sampled_from(objective_names(Recipe().model.modalities)),
    direction=st.sampled_from(["maximize", "minimize"]),
    bound=st.none() | numbers,
    reference=numbers,
)


@st.composite
def gates(draw, prefix=""):
    side = draw(st.sampled_from(["at_least", "at_most"]))
    return Gate(
        name=prefix + draw(names),
        quantity=draw(measured),
        steers=draw(st.booleans()),
        needs=draw(st.sampled_from(["", "attention", "images"])),
        **{side: draw(numbers)},
    )


changes = st.dictionaries(st.sampled_from(KEYS), values, max_size=3)
phases = st.builds(
    Phase,
    name=names,
    title=names,
    base=st.builds(
        lambda rate, layers: Recipe().updated({"train.learning_rate": rate, "model.layers": layers}),
        positive,
        st.integers(1, 9),
    ),
    reference=changes,
    known=st.dictionaries(names, changes, max_size=2),
    ranges=st.dictionaries(st.sampled_from([key for key in KEYS if key[:5] != "loss."]), ranges, max_size=4),
    objectives=st.lists(objectives, min_size=1, max_size=6, unique_by=lambda o: o.name).map(tuple),
    gates=st.lists(gates(), max_size=3, unique_by=lambda g: g.name).map(tuple),
    resume_gates=st.lists(gates("resume: "), max_size=2, unique_by=lambda g: g.name).map(tuple),
    ablatable=st.dictionaries(names, changes, max_size=2),
    trials=st.integers(0, 999),
    confirm_seeds=st.integers(0, 9),
    v1_reads=st.lists(st.sampled_from(MODALITIES), max_size=3, unique=True).map(tuple),
    suspect=st.just(SUSPECT),
    thresholds=st.builds(Thresholds, nothing_to_give=positive, rival_worse=positive),
    late=st.booleans(),
)


def there_and_back(phase):
    return phase_from_plain(json.loads(json.dumps(phase_to_plain(phase))))


@settings(deadline=None, max_examples=150)
@given(phase=phases)
def test_any_phase_comes_back_as_it_was(phase):
    found = there_and_back(phase)
    assert found == phase
    assert list(found.ranges) == list(phase.ranges)  # in the order in which a study is asked
    assert phase_to_plain(found) == phase_to_plain(phase)
    for mine, theirs in zip(phase.ranges.values(), found.ranges.values(), strict=True):
        assert repr(mine) == repr(theirs)  # 1, 1.0 and True are equal, and not the same


@pytest.mark.parametrize("phase", ROADMAP_STEPS.values(), ids=list(ROADMAP_STEPS))
def test_the_roadmaps_phases_come_back_also_around_another_base(phase):
    for asked in (phase, phase.with_base({"train.epochs": 2, "model.layers": 1, "loss.unimodal": 0.3})):
        assert there_and_back(asked) == asked
        assert there_and_back(asked).known_recipes() == asked.known_recipes()
        assert there_and_back(asked).reference_recipe() == asked.reference_recipe()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plain: plain.pop("gates"),
        lambda plain: plain.update(colour="red"),
        lambda plain: plain["gates"][0].pop("name"),
        lambda plain: plain["ranges"]["train.learning_rate"].update(kind="integer"),
        lambda plain: plain["base"].update({"model.depth": 3}),
    ],
)
def test_what_is_no_phase_is_refused(spoil):
    plain = phase_to_plain(ROADMAP_STEPS["phase1"])
    spoil(plain)
    with pytest.raises(ValueError, match=r"not a phase as this version|unknown configuration key"):
        phase_from_plain(plain)
