"""A dataset of four modalities whose suspect is noise, by the command line; plans for two and for five."""

import json

import pandas as pd
import pytest

from fusion_models.modalities import MODALITIES
from search.options import RunOptions
from search.pipeline.confirmation.arms import ArmKey, plan_arms
from search.pipeline.plan import _arms_said
from search.reporting import read_run
from spaces import PHASES, for_dataset

FOUR = ("visual", "text", "metadata", "clicks")


@pytest.fixture(scope="module")
def folder(run_of_four):
    return run_of_four


def test_gates_columns_and_arms_go_by_the_suspect_s_name(folder):
    decision = json.loads((folder / "decision.json").read_text())
    gates = {gate["name"] for gate in decision["gates"]}
    assert {"resume: clicks masking drop", "resume: importance regularised (refit gain of clicks)"} <= gates
    assert not [name for name in gates if "visual" in name and "refit gain of visual" not in name]
    front = pd.read_csv(folder / "pareto.csv")
    assert {f"{m}_masking_drop" for m in FOUR} | {f"attention_{m}" for m in FOUR} <= set(front.columns)
    assert {"config.loss.clicks_importance", "config.model.visual_tokens"} <= set(front.columns)
    assert "config.loss.visual_importance" not in front.columns
    trials = pd.read_csv(folder / "trials.csv")
    deciding = set(trials.loc[trials["stage"] == "deciding", "trial_id"].str.rsplit("-", n=1).str[0])
    assert {f"finalist-{'+'.join(m for m in FOUR if m != gone)}" for gone in FOUR} <= deciding
    assert "base-visual+text+metadata" in deciding


def test_what_is_noise_is_worth_nothing_and_no_gate_on_it_passes(folder):
    run = read_run(folder)
    assert run.phase.suspect == "clicks"
    assert set(run.evidence["refit_gain"]) == set(run.modalities) == set(FOUR)
    assert run.decision["verdict"] != "GO"
    states = {gate["name"]: gate["status"] for gate in run.decision["gates"]}
    assert states["resume: clicks masking drop"] != "pass"
    assert states["resume: importance regularised (refit gain of clicks)"] != "pass"
    page = (folder / "report.html").read_text()
    assert "Drop when the clicks is blanked" in page or "drop when the clicks is blanked" in page
    assert "image is blanked" not in page


@pytest.mark.parametrize("suspect", ["text", "clicks"])
def test_two_modalities_are_planned_with_one_refit_each(suspect):
    own = ("text", "clicks")
    phase = for_dataset(PHASES["phase3"], own, suspect)
    other = next(m for m in own if m != suspect)
    recipe = phase.base.updated({"loss.unimodal": 0.1})
    plan = plan_arms(phase, recipe, is_base=False)
    both = {ArmKey("finalist", m) for m in (own, ("text",), ("clicks",))}
    assert set(plan.recipes) == both | {ArmKey("base", own), ArmKey("base", (other,))}
    assert plan.recipes[ArmKey("finalist", ("clicks",))].model.context == "none"  # V1 reads the text
    assert _arms_said(phase) == f"the finalist, and it without text or clicks; base, and base without {suspect}"


def test_every_subset_of_five_is_said_in_the_plan():
    own = (*FOUR, "price")
    phase = for_dataset(PHASES["phase3"], own, "price")
    plan = plan_arms(phase, phase.base.updated({"model.variant": "film"}), is_base=False)
    assert len([key for key in plan.recipes if key.of == "finalist"]) == 31
    assert "all 30 subsets where the finalist has no attention" in _arms_said(phase)


def test_a_suspect_that_the_data_lack_is_refused_in_one_line():
    for suspect, data in (("sound", "clipart"), (None, "planted?modalities=text,metadata")):
        said = rf"--suspect: the suspect must be a modality of the dataset \(.*\), got '{suspect or MODALITIES[0]}'"
        with pytest.raises(ValueError, match=said):
            RunOptions(phase="phase1", data=data, suspect=suspect).to_phase()
