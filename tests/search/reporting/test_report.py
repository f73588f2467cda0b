"""report.html and --explain: whatever a run came to, they say it, and no text in it can do more than be read."""

import io
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from report_folders import FORMULA, HOSTILE, decided, searched
from rich.console import Console

from search.report import ReportOptions, report
from search.reporting import page as pages
from search.reporting import read_run, write_report
from search.reporting.explain import explain
from search.reporting.words import interval, label, number, reading, unbroken
from search.run_store.folder import RunFolderError
from spaces import PHASES

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
SECTIONS += ("rivals", "subdomains", "curves", "hypervolume", "importances", "examples", "trials", "provenance")


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
    folder.write(folder.read() | {"options": {"set": [f"{key}={PHASES['phase3'].base.flat()[key]}"], "epochs": None}})
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
    for said in ("loss.unimodal", "the finalist, fixed on validation", "retrained with 3 fresh seeds", "PAUSE_AND_FIX"):
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


def test_numbers_are_written_as_readers_write_them():
    assert number(0.0512, "visual_masking_drop") == "5.1 %"
    assert number(-0.0031, "ndcg_gain") == "−0.0031"
    assert number(float("nan")) == "–"
    assert number(720.0) == "720"
    assert interval(0.1, 0.2, "v1_correlation") == "[0.100, 0.200]"
    assert interval(None, 0.2) == ""
    assert label("resume: V1 correlation") == "Resume: V1 correlation"


def test_no_line_ends_before_a_percent_sign_and_scripts_stay_as_they_are():
    page = "<p>−2.3 % of 40 % left</p><script>const a = 7 % 3</script><td>5 %</td>"
    assert unbroken(page) == ("<p>−2.3\u00a0% of 40\u00a0% left</p><script>const a = 7 % 3</script><td>5\u00a0%</td>")


def test_reasons_name_quantities_as_readers_do():
    said = "fail: ndcg_gain, resume: V1 correlation; not stated: v1_stable, visual_masking_drop; see test_looks.json"
    assert reading(said) == (
        "fail: nDCG gain over V1, resume: V1 correlation; not stated: v1 stable, drop when the image is blanked; "
        "see test_looks.json"
    )
