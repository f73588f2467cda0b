"""report.html and --explain: whatever a run came to, they say it, and no text in it can do more than be read."""

import dataclasses
import html
import io
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from report_folders import BOUGHT_NOTHING, FORMULA, HOSTILE, decided, first_screen, searched
from rich.console import Console

from fusion_models.metrics.ranking_metric import RankingMetric
from search.options import RunOptions
from search.report import ReportOptions, report
from search.reporting import page as pages
from search.reporting import read_run, write_report
from search.reporting.explain import explain
from search.run_store.folder import RunFolderError
from spaces import PHASES, phase_to_plain

SECTIONS = (
    "verdict",
    "why",
    "gates",
    "flip",
    "front",
    "parallel",
    "agreement",
    "contribution",
    "attention",
    "ablation",
)
SECTIONS += (
    "leads",
    "rivals",
    "subdomains",
    "curves",
    "hypervolume",
    "importances",
    "examples",
    "trials",
    "provenance",
)


class Reader(HTMLParser):
    """The elements of a page, and what it would fetch."""

    def __init__(self):
        super().__init__()
        self.ids, self.tags, self.fetched, self.specs, self._spec = [], [], [], {}, None

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.fetched += [v for k, v in found.items() if k in ("src", "href") and not v.startswith(("#", "data:"))]
        assert not [k for k in found if k.startswith("on")], found
        self._spec = found.get("id") if found.get("type") == "application/json" else None

    def handle_data(self, data):
        if self._spec:
            self.specs[self._spec] = json.loads(data)
            self._spec = None


def drawn(folder):
    """The page of a run, without its pictures on disk."""
    run = read_run(folder.path)
    text = pages.page(run, [draw(run) for draw in pages.SECTIONS])
    reader = Reader()
    reader.feed(text)
    return text, reader


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A decided run with its report written: folder, page, reader."""
    folder = decided(tmp_path_factory.mktemp("report") / "phase3")
    write_report(folder)
    text = (folder.path / "report.html").read_text()
    reader = Reader()
    reader.feed(text)
    return folder, text, reader


def test_a_decided_run_is_shown_whole_in_one_file_that_fetches_nothing(whole):
    folder, text, reader = whole
    assert set(SECTIONS) <= set(reader.ids)
    assert len(reader.ids) == len(set(reader.ids))
    assert reader.fetched == []
    assert len(text) < 10e6
    assert "PAUSE AND FIX" in text
    assert "Attention is not contribution" in text
    for name in reader.specs:
        picture = folder.path / "figures" / f"{name.removeprefix('spec-')}.png"
        assert picture.read_bytes().startswith(b"\x89PNG"), name
    named = re.findall(r"Numbers: (figures/[\w.]+\.csv)", text)
    assert len(named) == len(pages.SECTIONS)
    for name in named:
        assert len(pd.read_csv(folder.path / name)), name


def test_every_chart_is_described_and_no_wider_than_its_place(whole):
    _, _, reader = whole
    assert len(reader.specs) > 15
    for spec in reader.specs.values():
        assert spec["width"] == "container"
        assert len(spec["description"]) > 20
        assert "http" not in json.dumps({k: v for k, v in spec.items() if k not in ("$schema", "datasets")})


def test_hostile_text_stays_text_in_html_and_csv(whole):
    folder, text, reader = whole
    assert HOSTILE not in text
    assert "<script>window.hacked" not in text
    assert "&lt;script&gt;window.hacked" in text  # it is shown, so that it can be seen
    assert reader.tags.count("script") == len(reader.specs) + 2
    assert reader.tags.count("img") == 2  # the two example pictures
    trials = (folder.path / "trials.csv").read_text()
    assert FORMULA not in pd.read_csv(folder.path / "trials.csv")["name"].to_list()
    assert "'=HYPERLINK" in trials


def test_an_interrupted_run_without_confirmation_says_what_is_missing(tmp_path):
    folder = searched(tmp_path / "phase3", end=None)
    text, reader = drawn(folder)
    assert set(SECTIONS) <= set(reader.ids)
    assert "NO VERDICT YET" in text
    assert "not finished" in text
    assert "has not come to a decision" in text
    assert "No recipe has been confirmed with fresh seeds" in text
    assert "No ablation was run" in text


def test_a_run_in_which_nothing_has_ended_has_a_page_too(tmp_path):
    folder = searched(tmp_path / "phase3", end=None)
    for name in ("trials.parquet", "trials.csv", "pareto.csv"):
        (folder.path / name).unlink()
    text, _ = drawn(folder)
    assert "No training has ended yet" in text
    (folder.path / "pareto.csv").write_text("\n")
    (folder.path / "ablation.csv").write_text("")
    drawn(folder)


def test_an_unknown_run_or_trial_is_an_error_that_names_what_is_there(tmp_path, console):
    searched(tmp_path / "phase3")
    with pytest.raises(RunFolderError, match=r"holds the runs phase3"):
        report(ReportOptions(run=str(tmp_path / "phase1")), console)
    with pytest.raises(ValueError, match=r"no trial 't000': it has 9 trials, such as t000\d, .*trials\.csv"):
        report(ReportOptions(run=str(tmp_path / "phase3"), explain="t000"), console)


def test_a_key_that_was_fixed_to_its_default_is_no_searched_key_of_the_run(tmp_path):
    folder = searched(tmp_path / "phase3")
    key = "model.dropout"
    assert key in read_run(folder.path).phase.ranges
    asked = RunOptions(phase="phase3", set=(f"{key}={PHASES['phase3'].base.flat()[key]}",))
    folder.write(folder.read() | {"definition": phase_to_plain(asked.to_phase())})
    assert key not in read_run(folder.path).phase.ranges


def test_the_recipe_the_words_and_why_no_other_verdict_stand_on_the_page(whole):
    _, text, reader = whole
    assert {"recipe", "words"} <= set(reader.ids)
    assert re.search(r"<th scope=\"row\">loss.unimodal</th><td>0</td><td>0.3</td>", text)
    assert "GO needs all of them, ARCHIVE one archive rule, and none holds." in text
    assert "refit gain" in text[text.index('id="words"') :]


def test_one_bad_trial_does_not_press_the_others_into_a_corner(whole):
    _, text, reader = whole
    domain = reader.specs["spec-front-ndcg_gain-v1_correlation"]["layer"][-1]["encoding"]["x"]["scale"]["domain"]
    assert domain[0] > -0.09  # the worst trial's gain
    assert "1 trials that did badly lie outside the frames" in text


def explained(folder, trial_id):
    console = Console(file=io.StringIO(), width=160)
    explain(read_run(folder.path), trial_id, console)
    return console.file.getvalue()


def test_explain_says_what_a_trial_was_and_why_it_stands_where_it_does(whole):
    folder, _, _ = whole
    finalist = explained(folder, "t0004")
    for said in (
        "loss.unimodal",
        "the finalist, fixed on validation",
        "retrained with 3 fresh seeds, averaged, test split",
        "PAUSE_AND_FIX",
    ):
        assert said in finalist
    assert "fell behind" in explained(folder, "t0005")
    assert "it can stand on no front" in explained(folder, "t0007")
    assert HOSTILE in explained(folder, "t0007").replace("\n", "")  # markup of a name is printed, not obeyed
    base = explained(folder, "t0000")
    assert "its recipe is the base recipe" in base
    assert "▁" in base


def test_explain_of_a_dominated_trial_names_who_is_better(tmp_path):
    folder = searched(tmp_path / "phase3")
    run = read_run(folder.path)
    behind = [r.trial_id for r in run.records if r.finished and r.trial_id not in set(run.pareto["trial_id"])]
    assert behind
    assert "is nowhere worse and somewhere better" in explained(folder, behind[0])


def test_the_first_screen_says_warnings_look_artefact_image_rivals_and_what_each_open_gate_needs(whole):
    folder, text, reader = whole
    said = first_screen(text)
    assert {"warnings", "look"} <= set(reader.ids)
    assert said.index(BOUGHT_NOTHING) < said.index("The finalist t0004")
    assert "Look 2 at this test split: intervals of 99.24 %." in said
    assert "on their whole intervals of 99.24 %;" in said
    assert "The finalist t0004, 4 trainings averaged, ranks +0.0400 [+0.0100, +0.0700] nDCG@10 above V1" in said
    assert "The image is worth +0.0100 [−0.0100, +0.0300] nDCG to it beside ensembles retrained without" in said
    assert "which cannot be told from 0; blanking it costs 6.0 % [5.5 %, 6.5 %] of its nDCG" in said
    assert "Its lead is −0.0250 [−0.0400, −0.0100] over the base recipe (the V2 you have)" in said
    assert "−0.0010 [−0.0120, +0.0100] over LambdaMART on everything" in said
    gates = json.loads((folder.path / "decision.json").read_text())["gates"]
    for gate in gates:
        assert gate["needed"] in said
        assert gate["note"] in said
    assert "80 lists of items left out of training" in said
    assert any(gate["needed"] for gate in gates)


def test_leads_probes_and_new_items_are_drawn_with_their_intervals(whole):
    folder, text, reader = whole
    assert {"spec-leads-lead", "spec-leads-probe", "spec-leads-new-items"} <= set(reader.specs)
    table = pd.read_csv(folder.path / "figures" / "leads.csv").set_index("name")
    leads = table[table["group"] == "lead"]
    assert list(leads.index) == ["base recipe", "LambdaMART", "weighted sum with V1", "strongest without image"]
    assert leads.loc["base recipe", ["mean", "ci_low", "ci_high"]].to_list() == pytest.approx([-0.025, -0.04, -0.01])
    probes = table[table["group"] == "probe"]
    assert probes["counts"].to_dict() == {"LambdaMART": "counts", "network on products": "does not count"}
    assert table.loc["gain over V1", "mean"] == pytest.approx(0.02)
    said = html.unescape(text)
    assert "The strongest ranker without the image, chosen on validation: LambdaMART without visual." in said
    assert "Found no planted signal, so it bounds nothing: network on products." in said


def changed(folder, name, change):
    """A run folder's JSON file with a change made to it."""
    path = folder.path / name
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def test_a_gate_is_known_by_its_key_kind_and_quantity_not_by_its_name(tmp_path):
    """Another wording of a gate or rule changes nothing but that wording."""
    folder = decided(tmp_path / "phase3")
    before = drawn(folder)[0]

    def reword(said):
        for entry in (*said["gates"], *said["archive_rules"]):
            entry["name"] = f"Zzz {entry['key']}"

    names = [e["name"] for e in json.loads((folder.path / "decision.json").read_text())["gates"]]
    changed(folder, "decision.json", reword)
    after = drawn(folder)[0]
    cells = [re.findall(r'<td class="(?:measured|threshold|status)".*?</td>', text) for text in (before, after)]
    assert cells[0] == cells[1]
    assert len(cells[0]) >= 3 * len(names) - 3
    margins = [text[text.index('id="spec-flip"') :].split("</script>")[0] for text in (before, after)]
    labels = [sorted(set(re.findall(r'"name": "([^"]+)"', margin))) for margin in margins]
    assert [label for label in labels[0] if "Zzz" in label] == []
    assert labels[0] == labels[1]


def test_a_finalist_without_attention_or_shapley_shares_has_a_page(tmp_path):
    folder = decided(tmp_path / "phase3")
    nothing = {"attention_by_layer": None, "refit_shapley": None, "probes": [], "strongest_blind": None, "leads": {}}
    changed(folder, "evidence.json", lambda said: said.update(nothing))
    changed(folder, "decision.json", lambda said: said.update(gates=[], warnings=[]))
    text, reader = drawn(folder)
    assert "This finalist has no shares by layer." in text
    assert "No rival could be measured." in text
    assert "warnings" not in reader.ids
    assert "spec-contribution-shares" not in reader.specs


def test_shares_of_the_refitted_shapley_values_have_intervals(whole):
    folder, _, reader = whole
    assert "spec-contribution-shares" in reader.specs
    table = pd.read_csv(folder.path / "figures" / "contribution.csv")
    shares = table[table["measure"] == "Shapley share"]
    assert shares["value"].to_list() == pytest.approx([1 / 3] * 3)
    assert (shares["ci_low"] < shares["value"]).all()


def test_rankers_are_told_by_their_role_and_the_split_that_was_opened_last(whole):
    folder, text, _ = whole
    said = html.unescape(text)
    assert "rankers that read what V1 reads: tuned V1, LambdaMART 0.944." in said  # the test row, not validation's
    rivals = pd.read_csv(folder.path / "figures" / "rivals.csv")
    assert "tuned V1, LambdaMART" in rivals["ranker"].to_list()
    assert "base recipe" in rivals["ranker"].to_list()
    assert '<th scope="row">t0000 <span class="ci">base recipe</span></th>' in text
    front = pd.read_csv(folder.path / "figures" / "front.csv")
    assert {"base recipe", "finalist (fragile)", "confirmed"} <= set(front["what"])


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"at_once": 2}, "With 2 trainings at once (--max-concurrent) the same"),
        ({"at_once": 3, "or_more": True}, "With 3 trainings at once or more (--max-concurrent) the same"),
        ({"at_once": None, "or_more": True}, "However many trainings run at once, the same"),
        ({"at_once": None, "or_more": False}, "so the same command may propose others"),
    ],
)
def test_on_what_the_proposals_hang(search, said):
    assert said in pages._search_said({"begun": 24, "planned": 24} | search)


def test_explain_names_the_run_s_metric_and_what_was_not_measured(tmp_path):
    folder = searched(tmp_path / "phase3")
    own = dataclasses.replace(PHASES["phase3"], metric=RankingMetric("mrr", 5))
    folder.write(folder.read() | {"definition": phase_to_plain(own)})
    table = pd.read_parquet(folder.path / "trials.parquet")
    table.loc[table["trial_id"] == "t0001", "v1_correlation"] = float("nan")
    table.to_parquet(folder.path / "trials.parquet")
    front = pd.read_csv(folder.path / "pareto.csv")
    front[front["trial_id"] != "t0001"].to_csv(folder.path / "pareto.csv", index=False)
    said = explained(folder, "t0001")
    assert "not on the front; not measured: Correlation with V1" in said
    assert "another trial" not in said
    assert "MRR@5" in said
    assert "nDCG@10" not in said
