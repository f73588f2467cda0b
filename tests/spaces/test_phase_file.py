"""A phase from a file: what it changes, what it leaves, and what it says to a mistake."""

import re
from pathlib import Path

import pytest

from fusion_models.metrics.ranking_metric import RankingMetric
from spaces import (
    PHASES,
    ROADMAP_STEPS,
    Objective,
    Weight,
    departures,
    parameters,
    phase_from_plain,
    phase_to_plain,
    read_phase_file,
)

EXAMPLE = Path(__file__).parents[2] / "docs" / "phase.example.toml"


@pytest.fixture
def read(tmp_path):
    def written(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return read_phase_file(str(path)).phase

    return written


def test_the_example_of_the_docs_is_what_it_says():
    found = read_phase_file(str(EXAMPLE))
    phase, named = found.phase, PHASES["phase3"]
    assert (found.extends, phase.name, phase.title) == ("phase3", "phase3", "Phase 3 with our thresholds")
    assert (phase.trials, phase.confirm_seeds, phase.base.train.epochs) == (32, 4, 8)
    gates = {gate.name: gate for gate in phase.gates}
    assert (gates["ndcg_gain"].at_least, gates["visual_masking_drop"].at_least) == (0.015, 0.03)
    assert "attention_max_share" not in gates
    assert gates["attention_min_share"] == next(g for g in named.gates if g.name == "attention_min_share")
    assert [gate.threshold for gate in phase.resume_gates] == [500, 0.03, 0.95, 0.9]
    assert {o.name: o.bound for o in phase.objectives}["visual_masking_drop"] == 0.10
    assert (phase.ranges["train.learning_rate"].low, phase.ranges["train.learning_rate"].log) == (2e-3, True)
    assert phase.ranges["loss.variance"] == Weight(low=0.01, high=0.3)
    assert "loss.adversarial" not in phase.ranges
    assert list(phase.known) == ["balanced", "tuned V1", "multi-task", "small batches", "screened", "low rank", "ours"]
    for recipe in phase.known_recipes().values():
        parameters(phase.ranges, recipe.flat(), phase.base.flat())


def test_what_departs_from_the_roadmap_is_told():
    assert departures(read_phase_file(str(EXAMPLE)).phase) == [
        "ndcg_gain: at least 0.015 (the roadmap: at least 0.02)",
        "visual_masking_drop: at least 0.03 (the roadmap has no such gate)",
        "attention_max_share: left out (the roadmap: at most 0.4)",
        "resume: visual masking drop: at least 0.03 (the roadmap: at least 0.05)",
        "resume: V1 correlation: at most 0.95 (the roadmap: at most 0.9)",
        "nothing to give: 0.004 (the roadmap: 0.005)",
    ]
    assert not any(departures(phase) for phase in ROADMAP_STEPS.values())


def test_any_quantity_that_trainings_end_with_may_be_an_objective(read):
    phase = read(
        'extends = "phase3"\n'
        "[objectives.text_masking_drop]\nreference = -0.05\nbound = 0.2\n"
        '[objectives.top1_stability]\nreference = 1.0\ndirection = "minimize"\n'
        "[objectives.attention_max_share]\noff = true\n"
    )
    named = {o.name: o for o in phase.objectives}
    assert list(named) == ["ndcg_gain", "visual_masking_drop", "v1_correlation", "text_masking_drop", "top1_stability"]
    assert named["text_masking_drop"] == Objective(
        name="text_masking_drop", direction="maximize", bound=0.2, reference=-0.05
    )
    assert named["top1_stability"].direction == "minimize"
    assert [o.name for o in phase.epoch_objectives] == ["ndcg_gain", "visual_masking_drop", "v1_correlation"]
    others = [name for name in named if name != "ndcg_gain"]
    off = "".join(f"[objectives.{n}]\noff = true\n" for n in (*others[:2], "attention_max_share"))
    assert [o.name for o in read(f'extends = "phase3"\n{off}').objectives] == ["ndcg_gain"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("[objectives.text_masking_drop]\nbound = 0.2", "objectives.text_masking_drop.reference is missing"),
        ("[objectives.top1_stability]\nreference = 1", "objectives.top1_stability.direction is missing"),
        ("[objectives.latency_p95_ms]\nreference = 100", "objectives.latency_p95_ms is unknown"),
        ("[objectives.reconstruction_ssim]\nreference = 0", "objectives.reconstruction_ssim is unknown"),
        (
            "".join(f"[objectives.{n}]\nreference = -1\n" for n in ("ndcg", "text_masking_drop", "attention_balance")),
            "objectives: a search has 1 to 6, got 7",
        ),
        (
            "".join(
                f"[objectives.{n}]\noff = true\n"
                for n in ("ndcg_gain", "visual_masking_drop", "attention_max_share", "v1_correlation")
            ),
            "objectives: a search has 1 to 6, got 0",
        ),
    ],
)
def test_an_objective_that_cannot_be_one_is_refused(read, said, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        read(f'extends = "phase3"\n{said}\n')


def test_metric_and_cutoff_are_a_phases_values(read):
    phase = read('extends = "phase3"\nmetric = "mrr"\n')
    assert phase.metric == RankingMetric("mrr", 10)
    assert departures(phase) == ["measured by MRR@10 (the roadmap: nDCG@10)"]
    assert read('extends = "phase2"\ncutoff = 5\n').metric.name == "nDCG@5"
    assert phase_from_plain(phase_to_plain(phase)) == phase
    assert phase_to_plain(phase)["metric"] == {"kind": "mrr", "cutoff": 10}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('metric = "map"', "metric = 'map': it is one of ndcg, mrr"),
        ("metric = 5", "metric = 5: it is one of ndcg, mrr"),
        ("cutoff = 0", "cutoff = 0: it must be a whole number of at least 1"),
        ("cutoff = 2.5", "cutoff = 2.5: it must be a whole number of at least 1"),
    ],
)
def test_another_metric_is_refused(read, said, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        read(f'extends = "phase3"\n{said}\n')


@pytest.mark.parametrize("name", ROADMAP_STEPS)
def test_a_file_that_changes_nothing_is_the_phase_itself(read, name):
    assert read(f'extends = "{name}"') == ROADMAP_STEPS[name]


def test_keys_may_be_written_as_toml_reads_a_dot(read):
    phase = read('extends = "phase1"\n[base]\nmodel.width = 64\n[ranges.train.weight_decay]\nlow = 1e-3\n')
    assert phase.base.model.width == 64
    assert phase.ranges["train.weight_decay"].low == 1e-3


def test_a_gate_may_change_its_side(read):
    (gate, *_) = read('extends = "phase1"\n[gates.visual_masking_drop]\nat_most = 0.5\n').gates
    assert (gate.at_least, gate.at_most, gate.violation(0.6)) == (None, 0.5, pytest.approx(0.1))


def test_off_may_be_said_to_be_false(read):
    assert read('extends = "phase1"\n[gates.ndcg_gain]\noff = false\n') == PHASES["phase1"]


def test_phase4_takes_its_space_over_and_so_changes_gates_alone(read):
    assert read('extends = "phase4"\n[gates.latency_p95_ms]\nat_most = 50\n').gates[2].at_most == 50.0
    with pytest.raises(ValueError, match=r"trials is unknown; known keys: extends, title, gates, resume_gates"):
        read('extends = "phase4"\ntrials = 3')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trials = 3", r"mine.toml: extends is missing: name the phase to start from \(phase1, phase2"),
        ('extends = "phase33"', r"extends = 'phase33': did you mean phase3"),
        ("extends = phase3", "cannot be read"),
        ('extends = "phase3"\ntrails = 3', "trails is unknown; did you mean trials"),
        ('extends = "phase3"\ntrials = 0', "trials = 0: it must be a whole number of at least 1"),
        ('extends = "phase3"\ntrials = true', "trials = True: it must be a whole number"),
        ('extends = "phase3"\nconfirm_seeds = 1', "confirm_seeds = 1: it must be a whole number of at least 2"),
        ('extends = "phase3"\ngates = 3', r"gates = 3: it must be a table, \[gates\]"),
        (
            'extends = "phase3"\n[base]\n"model.wdith" = 3',
            r"base: unknown configuration key 'model.wdith'; did you mean",
        ),
        ('extends = "phase3"\n[base]\n"model.width" = 30', r"base: model.width must be a multiple of model.heads"),
        (
            'extends = "phase3"\n[gates.ndcg_gain]\nat_last = 0.1',
            "gates.ndcg_gain.at_last is unknown; did you mean at_least",
        ),
        (
            'extends = "phase3"\n[gates.ndcg_gain]\nat_least = "much"',
            "gates.ndcg_gain.at_least = 'much': it must be a number",
        ),
        (
            'extends = "phase3"\n[gates.ndcg_gain]\nat_least = nan',
            "gates.ndcg_gain.at_least = nan: it must be a number",
        ),
        (
            'extends = "phase3"\n[gates.ndcg_gian]\nat_least = 0.1',
            r"reads 'ndcg_gian', which is no quantity: did you mean ndcg_gain",
        ),
        ('extends = "phase3"\n[gates.ndcg]\n', "gates.ndcg: give one of at_least and at_most"),
        ('extends = "phase3"\n[gates.ndcg]\nat_least = 0.1\nat_most = 0.2', "give one of at_least and at_most"),
        ('extends = "phase3"\n[gates.nothing]\noff = true', "gates.nothing is unknown"),
        (
            'extends = "phase3"\n[resume_gates.query]\nat_least = 9',
            "resume_gates.query is unknown; did you mean queries",
        ),
        (
            'extends = "phase3"\n[objectives.ndcg_gian]\nbound = 1',
            "objectives.ndcg_gian is unknown; did you mean ndcg_gain",
        ),
        ('extends = "phase3"\n[objectives.v1_correlation]\nbound = 1.5', "it must be better than reference = 1"),
        ('extends = "phase3"\n[objectives.v1_correlation]\ndirection = "up"', "direction = 'up': maximize or minimize"),
        ('extends = "phase3"\n[ranges."train.learning_rat"]\nlow = 1', "did you mean train.learning_rate"),
        ('extends = "phase3"\n[ranges."train.learning_rate"]\nlow = 1', "low = 1: it must be below high = 0.01"),
        ('extends = "phase3"\n[ranges."train.learning_rate"]\nlow = 0', "low = 0: it must be above 0 on a log scale"),
        ('extends = "phase3"\n[ranges."train.learning_rate"]\nlwo = 1', r"lwo is unknown; did you mean low"),
        (
            'extends = "phase3"\n[ranges."loss.variance"]\nlow = 1',
            "kind is missing, as loss.variance is not searched in phase3",
        ),
        (
            'extends = "phase3"\n[ranges."loss.variance"]\nkind = "real"',
            "kind = 'real': it is one of float, choice, weight",
        ),
        (
            'extends = "phase3"\n[ranges."model.rank"]\nkind = "float"\nlow = 1\nhigh = 4',
            "model.rank takes no fractions",
        ),
        (
            'extends = "phase3"\n[ranges."model.scale"]\nvalues = ["block", "all"]',
            "model.scale must be one of block, feature",
        ),
        (
            'extends = "phase3"\n[ranges."model.text_tokens"]\nvalues = [1, "4"]',
            r"'4' is no value of model.text_tokens",
        ),
        ('extends = "phase3"\n[ranges."model.scale"]\nvalues = []', "a list of at least one value"),
        ('extends = "phase3"\n[ranges."train.learning_rate"]\nlow = 5e-3', r"the known point 'base' lies outside"),
        (
            'extends = "phase3"\n[known.x]\n"loss.unimodal" = 9',
            r"the known point 'x' lies outside.*\[known.x\], or widen it",
        ),
        ('extends = "phase3"\n[known.x]\n"loss.unimodel" = 0.1', r"known.x: unknown configuration key"),
    ],
)
def test_a_mistake_says_where_it_stands_and_what_is_allowed(read, text, said):
    with pytest.raises(ValueError, match=said):
        read(text)
