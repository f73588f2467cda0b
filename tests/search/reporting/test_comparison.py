"""Two runs side by side, and a folder of runs as a list: settings apart from results, what differs first."""

import dataclasses
import io
import json
import re
import shutil

import pytest
from report_folders import HOSTILE, PHASE, decided, judged, searched
from rich.console import Console

from fusion_models.metrics import Interval
from fusion_models.terminal import ERRORS
from search.analysis.decision import decide
from search.report import ReportOptions, main, report
from search.reporting import read_run
from search.reporting.comparison import compare
from search.reporting.comparison_page import short_names
from search.reporting.run_list import list_runs
from search.run_store.folder import RunFolder, RunFolderError, json_text
from search.run_store.looks import Look
from spaces import for_dataset, phase_to_plain


@pytest.fixture(scope="module")
def _two(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    decided(root / "phase3")
    decided(root / "wider")
    searched(root / "begun", end=None)
    folder = RunFolder(root / "wider")
    run = folder.read()
    run["definition"]["trials"] = 48
    folder.write(run | {"options": {"trials": 48, "name": "wider"}, "seed": 0, "fingerprint": "other"})
    decision = json.loads((root / "wider" / "decision.json").read_text())
    gate = next(g for g in decision["gates"] if g["status"] == "pass")
    gate["status"] = "fail"
    decision |= {"verdict": "ARCHIVE", "look": decision["look"] | {"number": 3, "level": 0.9966}}
    (root / "wider" / "decision.json").write_text(json.dumps(decision))
    finalist = json.loads((root / "wider" / "finalist.json").read_text())
    finalist["recipe"]["model.width"] = 96
    (root / "wider" / "finalist.json").write_text(json.dumps(finalist))
    return root, gate


@pytest.fixture
def two(_two, tmp_path):
    """RESULTS with two decided runs that differ (what differs: the `wider` one), and one that was interrupted."""
    return shutil.copytree(_two[0], tmp_path / "results"), _two[1]


def said(options, width=None, **how):
    console = Console(
        file=io.StringIO(), width=width or 300, force_terminal=width is not None, color_system=None, **how
    )
    report(options, console)
    return console.file.getvalue()


def rows(page, part):
    table = re.search(rf"<caption>{part}</caption>.*?</table>", page, re.DOTALL)[0]
    found = re.findall(r"<tr(.*?)><th scope=\"row\">(.*?)</th><td>(.*?)</td><td>(.*?)</td></tr>", table)
    return [("same" not in mark, what, one, two) for mark, what, one, two in found]


def test_settings_stand_apart_from_results_and_what_differs_stands_first(two):
    root, gate = two
    text = said(ReportOptions(run=str(root / "phase3"), other=str(root / "wider")))
    place = root / "phase3-and-wider.html"
    assert text.splitlines()[-1] == str(place)
    page = place.read_text()
    assert page.index('id="settings"') < page.index('id="results"') < page.index('id="fronts"')
    assert [row[1:] for row in rows(page, "Phase")] == [("trials", "24", "48")]
    assert ("trials", "–", "48") in [row[1:] for row in rows(page, "Options")]
    assert "The same in both: program and machine." in page
    for part in ("Verdict", "Gates", "Artefact", "Rivals", "Front"):
        differs = [row[0] for row in rows(page, part)]
        assert differs == sorted(differs, reverse=True), part
    verdict = {what: (one, two) for _, what, one, two in rows(page, "Verdict")}
    assert verdict["verdict"] == ("PAUSE_AND_FIX", "ARCHIVE")
    assert verdict["look"] == ("2", "3")
    changed = [(one, two) for differs, _, one, two in rows(page, "Gates") if differs]
    assert len(changed) == 1
    assert changed[0][0].startswith("pass:")
    assert changed[0][1].startswith("fail:")
    assert gate["status"] == "fail"
    assert [row[1:] for row in rows(page, "Finalist&#39;s recipe") if row[0]] == [
        ("model.width", str(PHASE.base.model.width), "96")
    ]
    assert "The runs read different data" in page
    assert "Their looks have different levels" in page
    assert page.count("<svg") == 3
    assert "settings that differ" in text
    assert "phase: trials" in text
    assert "verdict: verdict" in text


def redecided(root, name, **changes):
    """Give a run's decision.json other fields."""
    place = root / name / "decision.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | changes))


def same_data(root):
    folder = RunFolder(root / "wider")
    folder.write((folder.read() or {}) | {"fingerprint": "abc"})
    return read_run(root / "phase3"), read_run(root / "wider")


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("test", "Both looked at the same test split"),
        ("deciding", "They were decided on the test split and the deciding half of validation"),
    ],
)
def test_looks_at_other_splits_are_no_looks_at_one(two, split, said):
    root, _ = two
    redecided(root, "wider", look=Look(number=2, split=split).as_json())
    found = compare(same_data(root)).warnings
    assert [warning[: len(said)] for warning in found] == [said]
    assert "half of validation" in said_of_list(root, "wider") or split == "test"


@pytest.mark.parametrize(
    ("looks", "chosen"),
    [
        ((Look(number=2), Look(number=2, by="phase3")), False),
        ((Look(number=2, by="phase3"), Look(number=2, by="phase3")), False),
        ((Look(number=3), Look(number=2, by="phase3")), True),
        ((Look(number=2), Look(number=3)), True),
    ],
)
def test_a_look_that_is_read_again_is_no_choice_of_the_better(two, looks, chosen):
    root, _ = two
    for name, look in zip(("phase3", "wider"), looks, strict=True):
        redecided(root, name, look=look.as_json())
    assert any("Both looked" in warning for warning in compare(same_data(root)).warnings) == chosen


@pytest.mark.parametrize("width", [None, 80])
def test_a_list_tells_a_run_s_own_look_from_another_phase_s(two, width):
    root, _ = two
    redecided(root, "wider", look=Look(number=2, by="phase3").as_json())
    text = said(ReportOptions(run=str(root)), width)
    assert ("(2)" if width else "2 (of phase3)") in text
    assert ("look in brackets" in text) == bool(width)
    entries = {entry.run: entry for entry in list_runs(root)}
    assert (entries["wider"].by, entries["phase3"].by) == ("phase3", "")


def said_of_list(root, name):
    return next(line for line in said(ReportOptions(run=str(root))).splitlines() if line.startswith(name))


def test_what_another_suspect_is_asked_stands_in_a_row_of_its_own(two):
    """Its gates have the same keys: what the text is worth stood under the image's name."""
    root, _ = two
    folder = RunFolder(root / "wider")
    other = for_dataset(PHASE, PHASE.base.model.of_dataset, "text")
    folder.write((folder.read() or {}) | {"definition": phase_to_plain(other)})
    quantities = {"text_masking_drop": Interval(0.06, 0.05, 0.07)}
    decision = json.loads(json_text(decide(other, "t0004", judged(quantities), {}).as_json()))
    redecided(root, "wider", gates=decision["gates"], archive_rules=decision["archive_rules"], look=None)
    found = compare(same_data(root))
    assert any("Their suspects differ (image and text)" in warning for warning in found.warnings)
    gates = {line.what: line.values for part in found.results if part.name == "gates" for line in part.lines}
    one, two = (gates[f"Resume: importance regularised (refit gain of {name})"] for name in ("visual", "text"))
    assert (one[1], two[0]) == ("–", "–")
    assert "undecided" in one[0]
    assert "undecided" in two[1]


def test_the_page_asks_nothing_of_any_network_and_runs_no_text(two):
    root, _ = two
    out = root / "mine.html"
    said(ReportOptions(run=str(root / "phase3"), other=str(root / "begun"), out=str(out)))
    page = out.read_text()
    assert HOSTILE not in page
    assert not re.findall(r"<script|\son\w+=|(?:src|href)=\"(?!data:,|#)", page)
    assert "begun has not finished: what it has so far is shown" in page
    assert "NO VERDICT YET" in page


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_both_keep_within_the_terminal_in_any_encoding(two, width, encoding):
    root, _ = two
    for options in (
        ReportOptions(run=str(root)),
        ReportOptions(run=str(root / "phase3"), other=str(root / "wider"), out="/dev/null/x"),
    ):
        written = io.BytesIO()
        file = io.TextIOWrapper(written, encoding=encoding, errors=ERRORS, newline="\n")
        console = Console(file=file, width=width, force_terminal=True, color_system=None, markup=False, emoji=False)
        if options.other is not None:
            options = dataclasses.replace(options, out=str(root / f"{width}{encoding}.html"))
        report(options, console)
        file.flush()
        lines = [x for x in written.getvalue().decode(encoding).splitlines() if not x.startswith(f"{root}/")]
        assert max(map(len, lines)) <= width, max(lines, key=len)
        text = "\n".join(lines)
        assert "ARCHIVE" in text
        assert "PAUSE_AND_FIX" in text


LONG = "/data/" + "/".join(f"team-{i}" for i in range(20)) + "/this-one"


@pytest.mark.parametrize("width", [None, 80, 140])
def test_values_are_whole_wherever_there_is_room(two, width):
    """And where they are not, that is said."""
    root, _ = two
    folder = RunFolder(root / "wider")
    folder.write((folder.read() or {}) | {"options": {"trials": 48, "data": LONG}})
    text = said(ReportOptions(run=str(root / "phase3"), other=str(root / "wider")), width)
    cut = "values are cut to fit; the page has them whole" in text
    assert cut == (width == 80)
    if width is None:
        assert LONG in text
    elif width == 140:
        lines = [[cell.strip() for cell in line.split("│")] for line in text.splitlines()]
        assert LONG in "".join(cells[3] for cells in lines if len(cells) > 4)


def test_a_folder_of_runs_is_a_list_with_every_verdict(two):
    root, _ = two
    folder = RunFolder(root / "wider")
    kept = folder.verdicts / "1"
    kept.mkdir(parents=True)
    shutil.copy(root / "phase3" / "decision.json", kept)
    further = {"number": 2, "by": "--settle", "start": "x", "before": "2026-11-20T08:00:00+00:00", "end": "x"}
    folder.write((folder.read() or {}) | {"verdicts": [further]})
    (root / "old").mkdir()
    (root / "old" / "run.json").write_text('{"phase": "phase3"}')
    text = said(ReportOptions(run=str(root)))
    found = [re.split(r"\s{2,}", line) for line in text.splitlines()[2:]]
    assert [row[0] for row in found] == ["begun", "old", "phase3", "wider", "wider"]
    assert "not finished" in found[0]
    assert "cannot be read" in " ".join(found[1])
    assert found[3][3:5] == ["PAUSE_AND_FIX (fragile)", "1/2"]
    assert found[4][3:5] == ["ARCHIVE (fragile)", "2/2"]
    assert found[3][-1] == "2026-11-20 08:00"
    assert found[4][-1] == "2026-11-24 10:00"
    assert not list(root.glob("*.html"))


BROKEN = {
    "run.json": {
        "cut": b'{"format": 4, "pha',
        "a list": b"[]",
        "not text": b"\xff\xfe\x00",
        "another version's": b'{"format": 1, "commit": "abc"}',
        "verdicts of another kind": b'{"format": 4, "verdicts": 3}',
        "options of another kind": b'{"format": 4, "options": [1]}',
    },
    "decision.json": {
        "cut": b'{"verdict": "G',
        "a list": b"[]",
        "not text": b"\xff",
        "empty": b"",
        "no verdict": b"{}",
    },
}


@pytest.mark.parametrize(("file", "how"), [(file, how) for file, found in BROKEN.items() for how in found])
def test_a_broken_run_is_a_row_and_hides_no_other(two, file, how):
    root, _ = two
    (root / "wider" / file).write_bytes(BROKEN[file][how])
    found = {line.split()[0]: line for line in said(ReportOptions(run=str(root))).splitlines()[2:]}
    assert list(found) == ["begun", "phase3", "wider"]
    assert "cannot be read: " in found["wider"]
    assert file in found["wider"] or "was written in format 1" in found["wider"]
    assert "PAUSE_AND_FIX" in found["phase3"]


@pytest.mark.parametrize(
    "file", ["run.json", "decision.json", "evidence.json", "finalist.json", "pareto.csv", "trials.parquet"]
)
@pytest.mark.parametrize("raw", [b'{"verdict": "G\n1\n1,2,3\n', b"\xff\xfe\x00"])
def test_a_broken_file_of_one_run_is_named(two, file, raw):
    root, _ = two
    (root / "wider" / file).write_bytes(raw)
    with pytest.raises(RunFolderError, match=file) as caught:
        said(ReportOptions(run=str(root / "phase3"), other=str(root / "wider")))
    assert "\n" not in str(caught.value)


def test_scripts_get_json(two, capsys, monkeypatch):
    root, _ = two
    monkeypatch.setattr("sys.argv", ["report", str(root), "--json"])
    assert main() == 0
    entries = json.loads(capsys.readouterr().out)
    assert {e["run"]: e["verdict"] for e in entries} == {
        "begun": "not finished",
        "phase3": "PAUSE_AND_FIX",
        "wider": "ARCHIVE",
    }
    monkeypatch.setattr("sys.argv", ["report", str(root / "phase3"), str(root / "wider"), "--json"])
    assert main() == 0
    found = json.loads(capsys.readouterr().out)
    assert {"what": "trials", "values": ["24", "48"], "differs": True} in found["settings"]["phase"]
    assert not list(root.glob("*.html"))


def test_what_cannot_be_compared_says_so(two, tmp_path):
    root, _ = two
    with pytest.raises(RunFolderError, match="holds no run"):
        said(ReportOptions(run=str(root / "phase3"), other=str(tmp_path / "nothing")))
    with pytest.raises(ValueError, match="leave the second one out"):
        ReportOptions(run="a", other="b", explain="t0001")
    with pytest.raises(ValueError, match="--json prints a list or a comparison"):
        said(ReportOptions(run=str(root / "phase3"), json=True))
    with pytest.raises(ValueError, match="name one of them for --explain"):
        said(ReportOptions(run=str(root), explain="t0001"))
    folder = RunFolder(root / "wider")
    folder.write((folder.read() or {}) | {"phase": "roadmap"})
    with pytest.raises(ValueError, match="is a roadmap: name one of its phases"):
        said(ReportOptions(run=str(root / "phase3"), other=str(root / "wider")))


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (("/r/phase3", "/r/mine"), ("phase3", "mine")),
        (("/r/one/phase3", "/r/two/phase3"), ("one/phase3", "two/phase3")),
        (("/r/phase3", "/r/phase3/"), ("phase3 (first)", "phase3 (second)")),
    ],
)
def test_names_are_as_short_as_tells_them_apart(names, short):
    assert short_names(names) == short


def test_a_folder_whose_runs_lie_one_level_down_is_listed(two, tmp_path):
    root, _ = two
    (tmp_path / "teams").mkdir()
    shutil.move(root, tmp_path / "teams" / "mine")
    assert "mine/phase3" in said(ReportOptions(run=str(tmp_path / "teams")))


def test_what_could_not_be_deleted_is_no_run(two, tmp_path):
    root, _ = two
    for place in (root, root / "roadmap"):
        shutil.copytree(root / "phase3", place / ".phase3.deleting-a1b2c3d4")
    listed = said(ReportOptions(run=str(root)))
    assert "phase3" in listed
    assert "deleting" not in listed
    (tmp_path / "left").mkdir()
    shutil.copytree(root / "phase3", tmp_path / "left" / ".phase3.deleting-a1b2c3d4")
    with pytest.raises(ValueError, match=r"run\.json"):
        report(ReportOptions(run=str(tmp_path / "left")), Console(quiet=True))


def test_a_phase_of_a_roadmap_is_listed_by_the_data_that_was_given(two):
    root, _ = two
    folder = RunFolder(root / "phase3")
    folder.write((folder.read() or {}) | {"data": "shop#halved"})
    (line,) = [line for line in said(ReportOptions(run=str(root))).splitlines() if line.startswith("phase3")]
    assert " shop " in line


def test_the_file_of_a_comparison_makes_its_folder_and_is_named_where_it_cannot_be_written(two, capsys, monkeypatch):
    root, _ = two
    out = root / "new" / "x.html"
    said(ReportOptions(run=str(root / "phase3"), other=str(root / "begun"), out=str(out)))
    assert out.exists()
    wrong = out / "y.html"
    monkeypatch.setattr("sys.argv", ["report", str(root / "phase3"), str(root / "begun"), "--out", str(wrong)])
    assert main() == 2
    told = capsys.readouterr().err
    assert f"cannot write {wrong} (" in told
    assert "give another file as --out" in told


def test_an_output_that_is_full_is_a_line(two, capsys, monkeypatch):
    root, _ = two

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("search.report.print_list", full)
    monkeypatch.setattr("sys.argv", ["report", str(root)])
    assert main() == 2
    assert "error: the output cannot be written (No space left on device): send it elsewhere" in capsys.readouterr().err
