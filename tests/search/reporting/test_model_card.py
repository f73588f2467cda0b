"""The model card says what a verdict does not speak of, by what the decision holds and not by how it is worded."""

import json

import pytest
from report_folders import decided

from fusion_models.config import Recipe
from search.reporting.model_card import card_text, limits
from search.reporting.records import read_run


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
