"""What a phase file says of the space: known points, and ranges that are asked on a condition."""

import dataclasses
import random
import re

import pytest

from spaces import PHASES, Choice, Float, Gate, Weight, parameters, read_phase_file, suggest
from spaces.ranges import Positive, ordered


@pytest.fixture
def read(tmp_path):
    def written(text, extends="phase3"):
        path = tmp_path / "mine.toml"
        path.write_text(f'extends = "{extends}"\n{text}\n')
        return read_phase_file(str(path)).phase

    return written


class Draws:
    """A study that draws at random."""

    def __init__(self, seed):
        self._generator = random.Random(seed)

    def suggest_float(self, name, low, high, *, log=False):
        return self._generator.uniform(low, high)

    def suggest_categorical(self, name, choices):
        return self._generator.choice(choices)


def drawn(phase):
    base = phase.base.flat()
    return [base | suggest(Draws(seed), phase.ranges, base) for seed in range(200)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[known.base]\n"loss.unimodal" = 0.3',
            "known.base: the search has a trial 'base' of its own: say under [base]",
        ),
        ("[known.base]\noff = true", "known.base: the search has a trial 'base' of its own"),
        ('[known.sampled]\n"loss.unimodal" = 0.3', "known.sampled: the search has a trial 'sampled' of its own"),
        ('[known."t0003 of phase2"]\n"loss.unimodal" = 0.3', "a trial 't0003 of phase2' of its own"),
        ('[gates.unfinished]\nquantity = "ndcg"\nat_least = 0', "the gate's name 'unfinished' is the search's own"),
        (
            '[known.x]\n"model.width" = 64',
            'sets model.width, which phase3 does not search: give it a range, [ranges."m',
        ),
    ],
)
def test_a_name_or_a_key_that_would_make_another_trial_of_it_is_refused(read, text, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        read(text)


@pytest.mark.parametrize("name", ["base", "sampled", "t12 of phase1"])
def test_a_phase_has_no_known_point_by_a_name_of_the_search(name):
    with pytest.raises(ValueError, match="of its own"):
        dataclasses.replace(PHASES["phase1"], known={name: {"loss.unimodal": 0.3}})


def test_two_gates_have_two_names():
    gate = PHASES["phase1"].gates[0]
    with pytest.raises(ValueError, match="'visual_masking_drop' is that of two gates"):
        dataclasses.replace(PHASES["phase1"], gates=(gate, dataclasses.replace(gate, at_least=0.1)))
    phase = PHASES["phase1"]
    assert dataclasses.replace(phase, gates=(*phase.gates, *phase.resume_gates)).steering


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"loss.unimodal"]\nwhen = {"model.variant" = ["filmm"]}', "model.variant must be one of"),
        ('"loss.unimodal"]\nwhen = {"model.scale" = ["blok"]}', "when.model.scale: model.scale must be one of block"),
        ('"loss.unimodal"]\nwhen = {"model.layers" = [1.5]}', "model.layers must be a whole number"),
        ('"loss.unimodal"]\nwhen = {"model.layers" = ["4"]}', "'4' is no value of model.layers"),
        ('"loss.unimodal"]\nwhen = {"model.heads" = [16]}', "when.model.heads = [16] never holds: model.heads stays 8"),
        ('"loss.unimodal"]\nwhen = {"model.heads" = []}', "when.model.heads = [] never holds"),
        ('"loss.unimodal"]\nwhen = {"loss.variance" = "above 0"}', "= 'above 0' never holds: loss.variance stays 0.0"),
        (
            '"loss.unimodal"]\nwhen = {"model.dropout" = [0.2]}',
            "[0.2] never holds: model.dropout is searched for others",
        ),
        (
            '"loss.unimodal"]\nwhen = {"loss.contrastive" = [0.1]}',
            "never holds: loss.contrastive is searched for others",
        ),
        (
            '"loss.unimodal"]\nwhen = {"model.text_tokens" = [2]}',
            "never holds: model.text_tokens is searched for others",
        ),
        (
            '"loss.decorrelation"]\noff = true\n[ranges."loss.decorrelation_target"]\nlow = 0.75',
            "never holds: loss.decorrelation stays 0.0",
        ),
        ('"loss.unimodal"]\nwhen = {"loss.unimodal" = "above 0"}', "(loss.unimodal -> loss.unimodal)"),
        (
            '"loss.unimodal"]\nwhen = {"loss.contrastive" = "above 0"}\n'
            '[ranges."loss.contrastive"]\nwhen = {"loss.unimodal" = "above 0"}',
            "(loss.unimodal -> loss.contrastive -> loss.unimodal): leave one of these conditions out",
        ),
        ('"loss.orthogonality"]\nkind = "weight"\nlow = 0.1\nhigh = 0.5', "set loss.adversarial too"),
        ('"model.variant"]\nvalues = ["film", "filmm"]', "model.variant must be one of"),
    ],
)
def test_a_condition_that_never_holds_is_refused(read, text, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        read(f"[ranges.{text}")


CONDITIONS = {
    "a key that stands later": (
        '[ranges."loss.unimodal"]\nwhen = {"loss.variance" = "above 0"}\n'
        '[ranges."loss.variance"]\nkind = "weight"\nlow = 0.1\nhigh = 0.2\n'
        "[known]\n" + "\n".join(f'"{name}" = {{off = true}}' for name in PHASES["phase3"].known),
        "loss.unimodal",
    ),
    "a weight that is off": (
        '[ranges."loss.contrastive"]\nwhen = {"loss.reconstruction" = [0.0]}\n',
        "loss.contrastive",
    ),
    "a value of a choice": (
        '[ranges."model.rank"]\nkind = "choice"\nvalues = [8, 4]\nwhen = {"model.variant" = ["film"]}',
        "model.rank",
    ),
    "a value of the base recipe": (
        '[ranges."loss.variance"]\nkind = "weight"\nlow = 0.1\nhigh = 0.2\nwhen = {"model.heads" = [8]}',
        "loss.variance",
    ),
    "a value that needs its condition": (
        '[ranges."loss.orthogonality"]\nkind = "weight"\nlow = 0.1\nhigh = 0.2\n'
        'when = {"loss.adversarial" = "above 0"}',
        "loss.orthogonality",
    ),
}


@pytest.mark.parametrize("case", CONDITIONS)
def test_a_condition_that_may_hold_is_sampled(read, case):
    text, key = CONDITIONS[case]
    text = text.replace('[ranges."loss.contrastive"]', '[known.multi-task]\noff = true\n[ranges."loss.contrastive"]')
    phase = read(text)
    assert len({recipe[key] for recipe in drawn(phase)}) > 1
    for recipe in phase.known_recipes().values():
        parameters(phase.ranges, recipe.flat(), phase.base.flat())


def test_a_range_keeps_its_condition_where_its_kind_changes(read):
    span = read('[ranges."loss.decorrelation_target"]\nkind = "choice"\nvalues = [0.85, 0.9]').ranges[
        "loss.decorrelation_target"
    ]
    assert span == Choice(values=(0.85, 0.9), when={"loss.decorrelation": Positive()})


def test_what_is_no_longer_searched_leaves_the_known_points(read):
    """They were asked by a name that told of more than was asked."""
    text = '[ranges."loss.decorrelation"]\noff = true\n[ranges."model.scale"]\noff = true'
    for phase in (read(text), PHASES["phase3"].with_base({"loss.decorrelation": 0.0, "model.scale": "block"})):
        base = phase.base.flat()
        for recipe in phase.known_recipes().values():
            point = {key: recipe.flat()[key] for key in phase.ranges}
            assert base | point == recipe.flat()
            parameters(phase.ranges, recipe.flat(), base)
        assert "loss.decorrelation_target" not in phase.known["multi-task"]


def test_ranges_stand_after_those_that_they_are_asked_on_and_else_in_their_order():
    late = Float(low=0.0, high=1.0, when={"c": (1,), "elsewhere": (1,)})
    one = Weight(low=0.1, high=1.0)
    assert list(ordered({"a": late, "b": one, "c": dataclasses.replace(late, when={"d": (1,)}), "d": one})) == list(
        "dcab"
    )
    for phase in PHASES.values():
        assert list(ordered(phase.ranges)) == list(phase.ranges)


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ({"loss.unimodel": Weight(low=0.1, high=1.0)}, "'loss.unimodel', which is no key; did you mean loss.unimodal"),
        ({"loss.unimodal": Weight(low=0.1, high=1.0, when={"model.varaint": ("film",)})}, "did you mean model.variant"),
    ],
)
def test_a_phase_has_ranges_of_keys(ranges, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(PHASES["phase1"], ranges=ranges, known={})


UNSEEN = ("visual_masking_drop_mean", "value_attention_text", "reconstruction_ssim")


@pytest.mark.parametrize("quantity", [*UNSEEN, "queries"])
def test_a_gate_steers_where_every_training_of_a_search_measures_it(read, quantity):
    gates = {gate.name: gate for gate in read(f"[gates.{quantity}]\nat_least = 0.5").gates}
    assert not gates[quantity].steers
    with pytest.raises(
        ValueError, match=rf"gates.{quantity}.steers = true: no training of a search measures {quantity}"
    ):
        read(f"[gates.{quantity}]\nat_least = 0.5\nsteers = true")
    phase = read(f'[gates.ndcg_gain]\nquantity = "{quantity}"\nat_least = 0.5')
    assert "ndcg_gain" not in phase.constraints({})
    phase = read("[gates.text_masking_drop]\nat_least = 0.5")
    assert phase.constraints({"text_masking_drop": 0.6})["text_masking_drop"] < 0
    assert not read("[gates.text_masking_drop]\nat_least = 0.5\nsteers = false").steering[3:]


def test_a_gate_of_a_phase_that_is_a_value_steers_by_what_is_measured():
    gate = Gate(name="quick", quantity="latency_p95_ms", at_most=50.0)
    phase = dataclasses.replace(PHASES["phase1"], gates=(*PHASES["phase1"].gates, gate))
    assert [g.name for g in phase.steering] == [g.name for g in PHASES["phase1"].gates]
    assert "quick" not in phase.constraints({})
