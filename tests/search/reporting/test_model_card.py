"""The model card says what a verdict does not speak of, by what the decision holds and not by how it is worded."""

import dataclasses
import io
import json

import pytest
from report_folders import decided
from rich.console import Console

from fusion_models.config import Recipe
from search.reporting import build_report, page
from search.reporting.charts.standing import sentences
from search.reporting.model_card import GRAPHS, card_text, limits
from search.reporting.records import read_run
from search.reporting.words import meaning
from search.run_store.looks import HALVED
from spaces import PHASE4, PHASES, phase_to_plain


@pytest.fixture
def card(tmp_path):
    """The limits of a decided run whose decision was changed."""
    folder = decided(tmp_path / "phase3").path

    def of(**changes):
        decision = json.loads((folder / "decision.json").read_text()) | changes
        (folder / "decision.json").write_text(json.dumps(decision))
        run = read_run(folder)
        return limits(run, Recipe.from_flat(run.finalist["recipe"]))

    return of


def test_a_closed_catalogue_is_a_fact_and_no_warning_s_words(card):
    said = "Judged for a closed catalogue: nothing here speaks of new items."
    assert said in card(closed_catalogue=True, warnings=[])
    assert said not in card(closed_catalogue=False, warnings=["this closed catalogue was counted"])


@pytest.mark.parametrize("phase", ["phase1", "phase2", "phase3", "phase4"])
@pytest.mark.parametrize("verdict", ["GO", "PAUSE_AND_FIX", "ARCHIVE"])
def test_a_go_says_what_it_means(tmp_path, phase, verdict):
    folder = decided(tmp_path / "run")
    definition = phase_to_plain(PHASE4 if phase == "phase4" else PHASES[phase])
    folder.write(folder.read() | {"phase": phase, "definition": definition})
    decision = json.loads((folder.path / "decision.json").read_text())
    (folder.path / "decision.json").write_text(json.dumps(decision | {"verdict": verdict}))
    run = read_run(folder.path)
    made = {"recipe": run.finalist["recipe"]}
    first, said = card_text(run, made).splitlines()[2], limits(run, Recipe.from_flat(made["recipe"]))
    release = "GO here means: release it, to 5 % of the traffic first."
    early = phase != "phase4"
    on = meaning("GO", phase) if early else "go on to"
    assert not early or on.endswith("This is no release: phase 4 alone decides on one.")
    assert "rollout.json" not in first
    assert (on in first) == (verdict == "GO" and early)
    assert (release in first) == (verdict == "GO" and not early)
    assert any(on in limit for limit in said) == (verdict == "GO" and early)
    assert any("not fit for release" in limit for limit in said) == (verdict != "GO")


@pytest.mark.parametrize(
    ("data", "practice"),
    [("clipart", True), ("planted:healthy?queries=160", True), ("planted+halved", True), ("/data/my-shop", False)],
)
def test_practice_data_is_called_practice_with_a_look_and_without(tmp_path, data, practice):
    """Phase 4 has no look of its own in its decision."""
    folder = decided(tmp_path / "run")
    folder.write(folder.read() | {"data": data.replace("+halved", HALVED)})
    decision = json.loads((folder.path / "decision.json").read_text())
    made = {"recipe": read_run(folder.path).finalist["recipe"]}
    for look in ({}, {"look": {"number": 2, "practice": practice, "level": 0.95}}):
        plain = {key: value for key, value in decision.items() if key != "look"}
        (folder.path / "decision.json").write_text(json.dumps(plain | look))
        text = card_text(read_run(folder.path), made)
        assert ("(practice)" in text) == ("- Practice: the data are bundled or planted" in text) == practice


def test_a_card_names_a_plan_of_the_rollout_that_is_there(tmp_path):
    folder = decided(tmp_path / "run")
    folder.write(folder.read() | {"phase": "phase4", "definition": phase_to_plain(PHASE4)})
    decision = json.loads((folder.path / "decision.json").read_text())
    (folder.path / "decision.json").write_text(json.dumps(decision | {"verdict": "GO"}))
    run = read_run(folder.path)
    made = {"recipe": run.finalist["recipe"]}
    assert "rollout.json" not in card_text(run, made)
    planned = dataclasses.replace(run, rollout={"stages": []})
    assert "5 % of the traffic first. The plan is in rollout.json." in card_text(planned, made)


@pytest.mark.parametrize("there", [(), ("ranker.pt2",), ("ranker.onnx",), ("ranker.onnx", "ranker-int8.onnx")])
def test_a_card_names_exports_that_are_there(tmp_path, there):
    folder = decided(tmp_path / "phase3")
    run = read_run(folder.path)
    (folder.path / "export").mkdir()
    for name in ("inputs.json", *there):
        (folder.path / "export" / name).write_text("{}")
    text = card_text(run, {"recipe": run.finalist["recipe"]})
    for name in GRAPHS:
        assert (f"`{name}`" in text) == (name in there)
    assert ("`export/" in text) == bool(there)
    assert text.endswith("\n")


def test_pairs_bring_their_own_features_and_an_export_its_inputs(tmp_path):
    folder = decided(tmp_path / "phase3")
    run = read_run(folder.path)
    made = {"recipe": run.finalist["recipe"]}
    text = card_text(run, made)
    assert "`features` of each pair, which no id stands for" in text
    assert "inputs.json" not in text
    (folder.path / "export").mkdir()
    (folder.path / "export" / "inputs.json").write_text("{}")
    (folder.path / "export" / "ranker.onnx").write_text("")
    assert "`export/inputs.json` says what each input holds" in card_text(run, made)


def test_gates_on_new_items_are_known_by_their_group(card):
    said = "Not shown to hold on items that no training saw."
    gate = {"key": "anything", "name": "anything", "group": "new items", "modality": "", "quantity": "ndcg_gain"}
    gate |= {"kind": "quantity", "status": "undecided"}
    assert said in card(gates=[gate])
    assert said not in card(gates=[gate | {"status": "pass"}])
    assert said not in card(gates=[gate | {"group": "phase", "key": "cold: gain"}])


def test_weights_and_a_module_of_the_team_s_own_stand_in_the_card(tmp_path):
    folder = decided(tmp_path / "phase3")
    run = read_run(folder.path)
    made = {"recipe": run.finalist["recipe"]}
    assert "started from" not in card_text(run, made)
    weights = {"file": "production_v2.pt", "sha256": "0123456789abcdef"}
    model = {
        "reference": "two_towers:TwoTowers",
        "sha256": "fedcba9876543210",
        "without a modality": "built without it",
    }
    folder.write(folder.read() | {"weights": weights, "model": model})
    card = card_text(read_run(folder.path), made).replace("\\", "")
    assert "Trainings started from production_v2.pt (0123456789ab)" in card
    assert "two_towers:TwoTowers, source fedcba987654" in card
    assert "- What the weights that it started from were trained on, the run does not know" in card


def test_the_card_is_written_where_the_figures_cannot_be_drawn(tmp_path, monkeypatch):
    folder = decided(tmp_path / "phase3")
    place = folder.checkpoints / "artefact"
    place.mkdir(parents=True)
    (place / "recipe.json").write_text(json.dumps({"recipe": read_run(folder.path).finalist["recipe"]}))

    def failing(*_):
        raise OSError("no picture")

    monkeypatch.setattr(page, "write_figures", failing)
    console = Console(file=io.StringIO(), width=200)
    build_report(folder, console)
    assert "the report could not be built (OSError: no picture)" in console.file.getvalue()
    assert "# Model card" in (place / "README.md").read_text()


def test_a_judged_run_without_its_evidence_is_no_run_without_a_finalist(tmp_path):
    folder = decided(tmp_path / "phase3")
    (folder.path / "judged.json").write_text("{}")
    (folder.path / "evidence.json").unlink()
    said = " ".join(sentences(read_run(folder.path)))
    assert "evidence.json" in said
    assert "deciding trainings all failed" not in said
    (folder.path / "judged.json").unlink()
    assert "deciding trainings all failed" in " ".join(sentences(read_run(folder.path)))
