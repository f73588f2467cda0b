"""Each way to break the contract is found by the check that is named after it, in a sentence that says what to do."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fusion_models.models.own import OwnModelError, own_model
from fusion_models.own.conformance import BUILDS, conformance, notes

MODULES = Path(__file__).parent / "modules"
PAGE = Path(__file__).parents[2] / "docs" / "your-own-ranker.md"
BROKEN = {
    "SumOverModalities": (BUILDS, r"returned scores of shape \[.*\], and \[2, 3\] is wanted"),
    "UndeclaredEvidence": (BUILDS, "returned fused: add 'fused' to its class attribute `gives`"),
    "NeverWithout": (BUILDS, r"a refit with visual alone cannot be built or scored .*no text"),
    "StrangeRange": ("its ranges are of its settings", "SPACE names 'wdith', which is no setting"),
    "ChangesItsInputs": ("shapes", r"changes its inputs in place \(visual, text, metadata\): work on a copy"),
    "MeanOverPadding": ("padding", r"when it is padded to \d+: keep padded places out by inputs.valid"),
    "ReadsPlaces": ("permutation", "does not permute its scores: do not read a candidate's place"),
    "UnusedParameter": ("gradient at every parameter", "no gradient reaches forgotten.weight: use it in forward"),
    "DeadParameter": ("gradient at every parameter", "the gradient of dead is always 0"),
    "BatchNorm": ("no buffer that training changes", "changes the buffer norm.running_mean.*take a layer norm"),
    "BreaksOnZeros": ("maskable", r"with visual blanked \(zero\) scores are not finite: guard norms"),
    "BlindToText": ("maskable", r"blanking text changes no score: forward does not read inputs.features\['text'\]"),
    "ForgetsOnSaving": ("save and load", "must be a Parameter or a registered buffer"),
    "NoisyInEvaluation": ("determinism", "scoring twice gives two results in evaluation mode"),
    "ForgetsOnResuming": ("its own loop resumes", "begin train_epochs at training.epoch"),
    "ListsInItsState": (
        "its own loop resumes",
        r"cannot keep .*old_dirs.* of its optimiser \(LBFGS\)",
    ),
    "RateIsATensor": ("its own loop resumes", r"a checkpoint cannot keep lr of its optimiser \(Adam\)"),
}
DOCUMENTED = ("two_towers:TwoTowers", "gated_mean:GatedMean", "own_loop:InItsOwnWay")
SOUND = ("broken_rankers:Sound", "broken_rankers:OwnLoop", "broken_rankers:Fixed", "broken_rankers:MeanFusion")


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_module_is_found(name, small_data):
    check, said = BROKEN[name]
    found = {finding.name: finding.failures for finding in conformance(f"broken_rankers:{name}", small_data)}
    assert found[check]
    assert re.search(said, " ".join(found[check]))


@pytest.mark.parametrize("reference", [*SOUND, *DOCUMENTED])
def test_a_sound_module_passes(reference, small_data):
    assert [finding for finding in conformance(reference, small_data) if not finding.passed] == []


def test_the_page_shows_the_modules_that_are_tested_here():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S)
    assert blocks == [(MODULES / f"{name.partition(':')[0]}.py").read_text() for name in DOCUMENTED]


def test_the_notes_say_what_a_run_will_do_with_it(small_data):
    said = "\n".join(notes("broken_rankers:Fixed", small_data))
    for part in ("loss.unimodal", "loss.reconstruction", "its features are the training mean", "run one by one"):
        assert part in said
    assert "loss.decorrelation" not in said
    said = "\n".join(notes("broken_rankers:MeanFusion", small_data))
    assert "may share kernels" in said
    assert "built without it" in said


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("nowhere.at_all:Model", r"no module 'nowhere' on the path. Start in the folder that holds it"),
        ("broken_rankers:Nobody", "broken_rankers has no class Nobody; it has .*Sound"),
        ("broken_rankers", "names no class: give package.module:Class"),
        ("broken_rankers:NoModule", "is no torch.nn.Module"),
        ("broken_rankers:NeedsMore", "its constructor asks for budget; it may ask for settings, widths"),
        (
            "broken_rankers:RefusesItsDefaults",
            "Choosy cannot be made with its defaults: AssertionError: heads",
        ),
        ("broken_rankers:HasNoDefault", r"give every field of Bare a default \(heads\)"),
        ("broken_rankers:NoSpace", "SPACE is None; give a dict of setting -> range, or leave it out"),
        ("broken_rankers:SpaceIsAList", r"SPACE is \('width',\); give a dict"),
        ("broken_rankers:GivesANumber", "`gives` is a tuple that may name projected, fused, not 5"),
        ("broken_rankers:Mutable", "annotate its constructor's `settings` with a frozen dataclass"),
    ],
)
def test_what_cannot_be_used_says_why(reference, said):
    with pytest.raises(OwnModelError, match=said):
        own_model(reference)


def test_the_command_says_what_failed():
    command = [sys.executable, "-m", "fusion_models.check", "broken_rankers:ReadsPlaces"]
    data = ["--data", "planted?queries=160&candidates=8"]
    done = subprocess.run([*command, *data], cwd=MODULES, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "FAILED permutation" in done.stdout
    assert "ok     gradient at every parameter" in done.stdout
    assert "1 checks failed" in done.stdout
