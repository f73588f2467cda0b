"""A phase round somebody's own module: what is searched, what is off, and that each known point lies in the space."""

import dataclasses
import re

import pytest

from fusion_models.models import inapplicable
from fusion_models.models.own import OwnModelError
from search.options import RunOptions
from spaces import (
    PHASES,
    ROADMAP_STEPS,
    Choice,
    Float,
    parameters,
    phase_from_plain,
    phase_to_plain,
    suggest,
    with_own_model,
)

MODULES = ("two_towers:TwoTowers", "gated_mean:GatedMean", "own_loop:InItsOwnWay", "broken_rankers:Fixed")


class Highest:
    """A study that always proposes the top of a range, and every weight switched on."""

    def suggest_float(self, name, low, high, *, log=False):
        return high

    def suggest_categorical(self, name, choices):
        return choices[-1]


@pytest.mark.parametrize("space", ["both", "own"])
@pytest.mark.parametrize("name", ROADMAP_STEPS)
@pytest.mark.parametrize("reference", MODULES)
def test_every_phase_can_be_searched_with_it(reference, name, space):
    phase = RunOptions(phase="roadmap", model=reference, model_space=space).to_phase(name)
    base = phase.base.flat()
    assert base["model.variant"] == reference
    assert phase_from_plain(phase_to_plain(phase)) == phase
    points = [recipe.flat() for recipe in phase.known_recipes().values()]
    for point in points:
        parameters(phase.ranges, point, base)
    assert len({tuple(sorted(point.items())) for point in points}) == len(points)
    proposed = phase.base.updated(suggest(Highest(), phase.ranges, base))
    assert inapplicable(proposed) == {}
    for changes in phase.ablatable.values():
        assert inapplicable(proposed.updated(changes)).keys() <= {"train.gradient_modulation"}


def test_its_space_stands_beside_ours_or_alone():
    both = with_own_model(PHASES["phase3"], "gated_mean:GatedMean")
    assert {"own.hidden", "loss.attention_entropy", "model.text_tokens", "train.learning_rate"} <= set(both.ranges)
    assert not {"model.variant", "model.layers"} & set(both.ranges)
    assert list(with_own_model(PHASES["phase3"], "gated_mean:GatedMean", alone=True).ranges) == ["own.hidden"]
    fixed = with_own_model(PHASES["phase3"], "broken_rankers:Fixed").ranges
    assert not {key for key in fixed if key.startswith("model.")} - {"model.context"}
    assert not {"loss.unimodal", "train.visual_learning_rate_scale", "loss.attention_entropy"} & set(fixed)


def test_a_setting_that_is_set_is_not_searched():
    options = RunOptions(phase="phase1", model="two_towers:TwoTowers", set=("own.width=32",))
    assert options.to_phase().base.flat()["own.width"] == 32
    assert "own.width" not in options.to_phase().ranges


def test_a_default_outside_its_range_says_so(monkeypatch):
    import two_towers

    monkeypatch.setattr(two_towers.TwoTowers, "SPACE", {"dropout": Float(low=0.1, high=0.3)}, raising=False)
    from spaces import own

    found = dataclasses.replace(own.own_model("two_towers:TwoTowers"), space=two_towers.TwoTowers.SPACE)
    monkeypatch.setattr(own, "own_model", lambda reference: found)
    with pytest.raises(
        OwnModelError, match=r"base recipe lies outside SPACE: own.dropout = 0.0 lies outside its range"
    ):
        with_own_model(PHASES["phase1"], "two_towers:TwoTowers")


FILE = """
extends = "phase3"
[ranges."own.dropout"]
high = 0.2
when = {"own.width" = [16, 32]}
[ranges."own.width"]
values = [8, 16, 32, 64]
[ranges."loss.unimodal"]
low = 0.2
high = 0.9
[known.wide]
"own.width" = 64
"loss.unimodal" = 0.5
[known.deep]
own.width = 8
[known.balanced]
off = true
"""


@pytest.fixture
def asked(tmp_path):
    def of(text, reference="two_towers:TwoTowers", **more):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return RunOptions(phase="phase3", model=reference, phase_file=str(path), **more).to_phase()

    return of


def test_a_phase_file_names_its_settings(asked):
    phase = asked(FILE)
    assert phase.ranges["own.width"] == Choice(values=(8, 16, 32, 64))
    assert phase.ranges["own.dropout"] == Float(low=0.0, high=0.2, when={"own.width": (16, 32)})
    assert phase.ranges["loss.unimodal"].high == 0.9
    assert phase.known["wide"] == {"own.width": 64, "loss.unimodal": 0.5}
    assert phase.known["deep"] == {"own.width": 8}
    assert "balanced" not in phase.known
    assert phase_from_plain(phase_to_plain(phase)) == phase
    for recipe in phase.known_recipes().values():
        parameters(phase.ranges, recipe.flat(), phase.base.flat())
    alone = asked(FILE, model_space="own")
    assert set(alone.ranges) == {"own.width", "own.dropout"}
    assert alone.known["wide"] == {"own.width": 64}


def test_a_setting_that_a_phase_file_fixes_is_not_searched(asked):
    phase = asked('extends = "phase3"\n[base]\nown.width = 24\n')
    assert phase.base.flat()["own.width"] == 24
    assert set(phase.ranges) & {"own.width", "own.dropout"} == {"own.dropout"}
    assert "own.width" not in asked('extends = "phase3"\n[ranges."own.width"]\noff = true\n').ranges


def test_a_phase_file_comes_before_a_space_that_names_our_keys(asked, monkeypatch):
    from spaces import own, phase_file

    space = {"train.learning_rate": Float(low=1e-3, high=1e-2)}
    found = dataclasses.replace(own.own_model("two_towers:TwoTowers"), space=space)
    for module in (own, phase_file):
        monkeypatch.setattr(module, "own_model", lambda reference: found)
    assert asked('extends = "phase3"').ranges["train.learning_rate"].high == 1e-2
    assert asked('extends = "phase3"\n[ranges.train.learning_rate]\nhigh = 5e-3').ranges[
        "train.learning_rate"
    ] == Float(low=1e-3, high=5e-3)


MISTAKES = {
    '[ranges."own.wdith"]\nvalues = [8]': "ranges.own.wdith is unknown; did you mean own.width",
    '[ranges."own.width"]\nlow = 8': "ranges.own.width.low is unknown; known keys: when, values",
    '[ranges."own.width"]\nvalues = [8, 16.5]': "ranges.own.width: own.width must be a whole number, got 16.5",
    '[ranges."own.width"]\nkind = "float"\nlow = 8\nhigh = 16': "own.width takes no fractions: give kind",
    '[ranges."own.dropout"]\nlow = 0.1': "the known point 'base' lies outside of the ranges (own.dropout = 0.0 lies",
    '[ranges."own.dropout"]\nhigh = "much"': "ranges.own.dropout.high = 'much': it must be a number",
    "[base]\nown.wdith = 3": "base: unknown configuration key 'own.wdith'; did you mean own.width",
    '[base]\nown.width = "wide"': "base: own.width must be a int, got 'wide'",
    "[known.x]\nown.width = 24": "the known point 'x' lies outside of the ranges (own.width = 24 is not among (8, ",
    "[known.x]\nown.width = 8\noff = true": "known.x: what is off has no other key",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_its_settings_says_key_value_and_what_is_allowed(asked, text):
    with pytest.raises(ValueError, match=re.escape(MISTAKES[text])) as caught:
        asked(f'extends = "phase3"\n{text}\n')
    assert str(caught.value).startswith("--phase-file ")
    assert "\n" not in str(caught.value)


def test_settings_of_nobody_s_module_are_refused(asked):
    for text, key in (("[base]\nown.width = 3", "base.own.width"), ("[known.x]\nown.a = 3", "known.x.own.a")):
        with pytest.raises(ValueError, match=rf"{key} is a setting of a module of your own: name that by --model"):
            asked(f'extends = "phase3"\n{text}\n', reference=None)


def test_a_module_may_refuse_a_value_of_its_own(asked, monkeypatch):
    import two_towers

    from spaces import file_space

    @dataclasses.dataclass(frozen=True)
    class Narrow(two_towers.Settings):
        def __post_init__(self):
            if self.width > 100:
                raise ValueError("width is at most 100")

    found = dataclasses.replace(file_space.own_model("two_towers:TwoTowers"), settings=Narrow)
    monkeypatch.setattr(file_space, "own_model", lambda reference: found)
    with pytest.raises(ValueError, match=r"ranges.own.width: two_towers:TwoTowers refuses its settings .* at most 100"):
        asked('extends = "phase3"\n[ranges."own.width"]\nvalues = [16, 128]\n')
