"""One figure that cannot be drawn says so and costs no other; a page that cannot be built is no older page."""

import dataclasses
import io
import json

import pandas as pd
import pytest
from report_folders import decided
from rich.console import Console

from search.reporting import build_report, page, read_run
from search.reporting.charts import modalities, release
from search.reporting.charts.figure import Panel, missing, write_figures
from search.reporting.page import AUDIT_SECTIONS, RELEASE_SECTIONS, SECTIONS, drawn
from search.run_store.folder import RunFolder, json_text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return decided(tmp_path_factory.mktemp("figures") / "phase3")


@pytest.mark.parametrize("draw", dict.fromkeys((*SECTIONS, *RELEASE_SECTIONS, *AUDIT_SECTIONS)))
def test_a_figure_that_fails_says_why_under_its_own_name(folder, draw):
    found = drawn(draw, object())
    assert "It could not be drawn (AttributeError: " in found.missing
    assert found.name == draw(read_run(folder.path)).name


def test_a_picture_that_fails_costs_its_figure_alone(folder, monkeypatch):
    run = read_run(folder.path)
    figures = [drawn(draw, run) for draw in (modalities.agreement, modalities.attention)]
    real = Panel.png
    monkeypatch.setattr(Panel, "png", lambda panel: 1 / 0 if panel.name == "attention" else real(panel))
    agreement, attention = write_figures(figures, folder)
    assert agreement == figures[0]
    assert attention.missing == "It could not be drawn (ZeroDivisionError: division by zero)."
    assert (folder.path / "figures" / "agreement.png").exists()
    assert (folder.path / "figures" / "attention.csv").exists()


def test_a_figure_that_is_missing_leaves_nothing_older(folder, tmp_path):
    older = ["ablation.csv", "ablation.png", "ablation-ndcg_gain.png", "leads.csv", "leads-base.png"]
    place = tmp_path / "figures"
    place.mkdir()
    for name in older:
        (place / name).write_text("of an earlier verdict")
    figures = [missing("ablation", "Ablation", "None was run."), drawn(modalities.agreement, read_run(folder.path))]
    write_figures(figures, RunFolder(tmp_path))
    left = {path.name for path in place.iterdir()}
    assert left == {"leads.csv", "leads-base.png", "agreement.csv", "agreement.png"}


def test_a_picture_that_fails_leaves_no_older_one(folder, monkeypatch, tmp_path):
    place = tmp_path / "figures"
    place.mkdir()
    (place / "agreement.png").write_text("of an earlier verdict")
    (place / "agreement-left.png").write_text("of a panel that it has no more")
    monkeypatch.setattr(Panel, "png", lambda panel: 1 / 0)
    write_figures([drawn(modalities.agreement, read_run(folder.path))], RunFolder(tmp_path))
    assert {path.name for path in place.iterdir()} == {"agreement.csv"}


def test_shares_that_are_no_numbers_are_left_out(folder):
    run = read_run(folder.path)
    layers = json.loads(json_text([[float("nan"), 0.5, 0.5], [0.2, 0.5, 0.3]]))
    figure = drawn(
        modalities.attention, dataclasses.replace(run, evidence=run.evidence | {"attention_by_layer": layers})
    )
    assert not figure.missing
    assert figure.table["share"].notna().all()


def test_of_many_subdomains_those_with_most_queries_are_drawn_and_all_are_told(folder):
    run = read_run(folder.path)
    (row,) = run.evidence["subdomains"]
    rows = [row | {"subdomain": f"s{i}", "queries": i, "mean": (i * 7 % 100) / 1000} for i in range(700)]
    figure = modalities.subdomains(dataclasses.replace(run, evidence=run.evidence | {"subdomains": rows}))
    (panel,) = figure.panels
    assert panel.height < 1500
    assert len(figure.table) == 700
    assert "700 subdomains gain" in figure.caption
    assert "The 40 with most queries are drawn; all are in figures/subdomains.csv." in figure.caption
    assert "s699 " in panel.alt
    assert "s659 " not in panel.alt
    assert "are drawn" not in modalities.subdomains(run).caption


@pytest.mark.parametrize("quiet", [True, False])
def test_a_page_that_cannot_be_built_is_said_and_leaves_no_older_one(folder, monkeypatch, capsys, quiet):
    (folder.path / "report.html").write_text("of an earlier verdict")
    monkeypatch.setattr(page, "sections", lambda run: ())
    monkeypatch.setattr(page, "page", lambda run, figures: 1 / 0)
    console = Console(file=io.StringIO(), width=200, quiet=quiet)
    build_report(folder, console)
    assert not (folder.path / "report.html").exists()
    said = capsys.readouterr().err if quiet else console.file.getvalue()
    assert "the report could not be built (ZeroDivisionError: division by zero); the tables are whole" in said
    assert f"python -m search.report {folder.path} tries again" in said


def test_the_limit_that_is_drawn_beside_the_times_is_the_gate_s(folder):
    run = read_run(folder.path)
    gate = run.decision["gates"][0] | {"quantity": "latency_p95_ms", "value": 9.0, "threshold": 37.0}
    times = {"ranker": "V2", "candidates": "as judged", "parameters": 9, "ndcg_cost": 0.0, "note": "", "batch": 1}
    times |= {"p50_ms": 5.0, "p95_ms": 9.0, "p95_ms_ci_low": 8.0, "p95_ms_ci_high": 10.0, "p99_ms": 12.0}
    latency = pd.DataFrame([times | {"runtime": "eager"}])
    found = release.latency(dataclasses.replace(run, latency=latency, decision=run.decision | {"gates": [gate]}))
    said = json.dumps(found.panels[0].spec)
    assert '"ms": 37.0' in said
    assert '"ms": 100.0' not in said
