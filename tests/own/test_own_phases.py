"""A phase round somebody's own module: what is searched, what is off, and that each known point lies in the space."""

import dataclasses

import pytest

from fusion_models.models import inapplicable
from fusion_models.models.own import OwnModelError
from search.options import RunOptions
from spaces import PHASES, ROADMAP_STEPS, Float, parameters, phase_from_plain, phase_to_plain, suggest, with_own_model

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
