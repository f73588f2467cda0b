"""The Python API: its page as it stands there, its result, and what it says to a mistake."""

import dataclasses
import io
import re
import subprocess
import sys
import types
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from report_folders import HOSTILE, decided
from rich.console import Console

from fusion_models.data import open_dataset
from search.api import Result, _console, read, run
from search.monitoring import progress
from search.monitoring.progress import ProgressObserver
from search.run_store.folder import RunFolderError
from search.run_store.given_tables import keep_tables
from spaces import PHASES, phase_from_plain

PAGE = Path(__file__).parents[2] / "docs" / "python-api.md"
NAMES = ("items", "queries", "judgements")


@pytest.fixture(scope="module")
def walked(tmp_path_factory, shared_ray):
    """The names that the page's code leaves, run block after block in a folder of its own; and that folder."""
    place = tmp_path_factory.mktemp("notebook")
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for code in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE):
            exec(compile(code, PAGE.name, "exec"), names)
    return names, place


@pytest.fixture(scope="module")
def tables():
    place = open_dataset("planted?queries=160&candidates=8").location
    return {name: pd.read_parquet(f"{place}/{name}.parquet") for name in NAMES}


def test_the_page_ends_in_a_result_with_every_table(walked):
    names, place = walked
    result = names["result"]
    assert result.verdict == "PAUSE_AND_FIX"
    assert result.path == place / "results" / "phase1"
    assert len(result.gates) == len(PHASES["phase1"].gates) + len(PHASES["phase1"].resume_gates)
    assert set(result.gates["status"]) == {"not measured"}
    assert 1 <= len(result.front) <= 2
    assert (result.trials["stage"] == "search").sum() == 2
    assert {"V1", "text alone"} <= set(result.baselines["name"])
    assert result.confirmed.empty
    assert result.report.read_text().startswith("<!doctype html>")
    assert names["best"] in set(result.trials["trial_id"])
    assert result.description["data"] == str(next((place / "results" / "data").iterdir()))


def test_a_phase_of_ones_own_is_carried_by_its_run(walked):
    names, _ = walked
    carried = phase_from_plain(names["mine"].description["definition"])
    assert carried.title == "Our quick fixes"
    assert carried.gates == names["ours"].gates
    assert "ndcg_gain: at least 0.005 (the roadmap: at least 0.01)" in (names["mine"].path / "decision.md").read_text()


def test_nothing_is_printed(walked, capfd, tables):
    again = run(**tables, phase="phase1", results=walked[1] / "results", epochs=1, confirm_seeds=0)
    assert again.verdict == "PAUSE_AND_FIX"  # the finished run: the same tables are the same dataset
    assert capfd.readouterr() == ("", "")


def test_the_same_tables_are_kept_once_however_they_are_given(tmp_path, tables):
    kept = keep_tables(str(tmp_path), tables)
    before = {p: p.stat().st_mtime_ns for p in Path(kept).iterdir()}
    assert keep_tables(str(tmp_path), tables) == kept
    assert {p: p.stat().st_mtime_ns for p in Path(kept).iterdir()} == before
    arrow = {name: pa.Table.from_pandas(t, preserve_index=False) for name, t in tables.items()}
    paths = {name: Path(kept) / f"{name}.parquet" for name in NAMES}
    for given in (arrow, paths):
        place = keep_tables(str(tmp_path / "other"), given)
        assert open_dataset(place).counts == open_dataset(kept).counts
    other = keep_tables(str(tmp_path), tables | {"queries": tables["queries"].iloc[:-1]})
    assert other != kept


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"trails": 3}, "unknown option 'trails'; did you mean trials"),
        ({"phase": "phase33"}, "phase = 'phase33': did you mean phase3"),
        ({"phase": dataclasses.replace(PHASES["phase1"], name="ours")}, "phase = 'ours'"),
        ({"trials": 0}, "--trials must be at least 1"),
        ({"items": pd.DataFrame()}, "queries and judgements missing"),
        ({"items": pd.DataFrame(), "data": "planted"}, "data = 'planted' and items: give one dataset"),
        ({"items": 3, "queries": 3, "judgements": 3}, "items.parquet: int is no table"),
    ],
)
def test_a_mistake_is_a_value_error_that_says_what_is_allowed(tmp_path, given, said):
    with pytest.raises(ValueError, match=said):
        run(results=tmp_path, **given)


def test_a_result_shows_itself_and_escapes_what_it_was_given(tmp_path):
    decided(tmp_path / "phase3")
    result = read(tmp_path / "phase3")
    assert result.verdict == result.decision["verdict"]
    assert list(result.gates["name"])[:2] == ["attention_min_share", "attention_max_share"]
    assert len(result.confirmed) == 6
    result.decision["reasons"].append(HOSTILE)
    result.decision["gates"][0]["name"] = HOSTILE
    shown = result._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert result.verdict in shown
    assert "phase3: " in repr(result)


def test_a_run_that_is_not_there_or_of_another_format_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="holds no run"):
        read(tmp_path / "phase3")
    (tmp_path / "phase3").mkdir()
    (tmp_path / "phase3" / "run.json").write_text('{"phase": "phase3", "commit": "abc"}')
    with pytest.raises(RunFolderError, match="written in format 1 by fusion-search of commit abc"):
        read(tmp_path / "phase3")


def test_a_roadmaps_tables_name_their_phase(roadmap):
    result = read(roadmap[0])
    assert list(result.phases) == ["phase1", "phase2", "phase3"]
    assert result.verdict == result.decision["verdict"]
    assert set(result.trials["phase"]) == {"phase1", "phase2", "phase3"}
    assert len(result.trials) == sum(len(phase.trials) for phase in result.phases.values())
    assert isinstance(result.phases["phase1"], Result)
    assert "<h3>roadmap: " in result._repr_html_()


def test_importing_the_package_changes_nothing_in_the_process():
    code = "import gc, signal; g, s = gc.get_threshold(), signal.getsignal(signal.SIGINT); "
    code += "import search, search.api, spaces; assert gc.get_threshold() == g, gc.get_threshold(); "
    code += "assert signal.getsignal(signal.SIGINT) is s"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_notebook_gets_a_bar_that_is_drawn_again_and_escapes_names(monkeypatch, tmp_path):
    """IPython is no dependency: its two functions stand here as its documentation has them."""
    drawn = []

    class Handle:
        def update(self, shown):
            drawn.append(shown)

    def display(shown, display_id):
        drawn.append(shown)
        return Handle()

    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display, HTML=str))
    observer = ProgressObserver(Console(quiet=True, force_jupyter=True), PHASES["phase1"], 4)
    with observer:
        observer._show(HOSTILE)
    assert drawn[0].startswith('<progress value="0" max="4"')
    assert "<script" not in drawn[1]
    assert progress.NotebookBar


def test_progress_prints_what_the_command_line_prints(monkeypatch):
    """Brackets of names stay, and a stream that lacks a character gets one that it has."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    console = _console(progress=True)
    console.print("results/[shop]: gain ≥ 0.01 :fire:")
    stream.flush()
    assert stream.buffer.getvalue() == b"results/[shop]: gain >= 0.01 :fire:\n"
    assert _console(progress=None).quiet
    assert _console(progress=False).quiet
