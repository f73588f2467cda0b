"""What report.html and decision.md say of a run's numbers, metric and thresholds, and in which words."""

import dataclasses
import html
import math
import re

from report_folders import PHASE, decided, first_screen, judged

from fusion_models.metrics.ranking_metric import RankingMetric
from search.analysis.archive import ArchiveRule
from search.analysis.decision import decide
from search.analysis.gates import GateResult
from search.reporting import read_run
from search.reporting.charts.flip import flip
from search.reporting.decision_page import decision_text
from search.reporting.page import page
from search.reporting.words import interval, label, number, reading, unbroken
from spaces import PHASES, phase_to_plain


def test_numbers_are_written_as_readers_write_them():
    assert number(0.0512, "visual_masking_drop") == "5.1 %"
    assert number(-0.0031, "ndcg_gain") == "−0.0031"
    assert number(float("nan")) == "–"
    assert number(720.0) == "720"
    assert [number(n, "integrity_open") for n in (0.0, 1.0, 12.0)] == ["0", "1", "12"]
    assert number(9.0, "queries") == "9"
    assert label("resume: v1 stable (business fact)") == "Resume: V1 stable (business fact)"
    assert interval(0.1, 0.2, "v1_correlation") == "[0.100, 0.200]"
    assert interval(None, None) == interval(float("nan"), float("nan")) == ""
    assert interval(None, 0.2) == interval(-float("inf"), 0.2) == "(−∞, 0.200]"
    assert interval(2.345, None) == interval(2.345, float("inf")) == "[2.345, ∞)"
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


def shown(folder):
    """The page of a run with one figure: drawing them all takes seconds, and nothing here reads them."""
    run = read_run(folder.path)
    return html.unescape(page(run, [flip(run)]))


def test_thresholds_that_are_not_the_roadmaps_are_told(tmp_path):
    folder = decided(tmp_path / "phase3")
    said = "Thresholds that are not the roadmap's"
    assert said not in shown(folder)
    phase = PHASES["phase3"]
    (first, *rest) = phase.gates
    own = dataclasses.replace(phase, gates=(dataclasses.replace(first, at_least=0.123), *rest))
    folder.write(folder.read() | {"definition": phase_to_plain(own)})
    told = f"{said}: attention_min_share: at least 0.123 (the roadmap: at least 0.2)."
    assert told in shown(folder)
    text = decision_text(own, decide(own, None, None), "test split")
    assert f"{said}:\n\n- attention_min_share: at least 0.123 (the roadmap: at least 0.2)\n" in text


def test_metric_cutoff_and_weights_are_told_and_named(tmp_path):
    folder = decided(tmp_path / "phase3")
    assert "Measured by nDCG@10; every query counts alike." in shown(folder)
    own = dataclasses.replace(PHASES["phase3"], metric=RankingMetric("mrr", 5))
    folder.write(folder.read() | {"definition": phase_to_plain(own), "weighted": True})
    text = shown(folder)
    said = "Measured by MRR@5; queries count by their weights; where a name says nDCG, it is MRR@5."
    assert said in text
    assert "MRR@5 above V1" in first_screen(text)
    assert (
        "<dt>MRR@5</dt><dd>One over the rank of the first relevant document, 0 where it is not among the first 5."
        in text
    )
    assert "nDCG@10</t" not in text.replace("(the roadmap: nDCG@10)", "")
    assert said in decision_text(own, decide(own, None, None), "test split", weighted=True)


def test_decision_md_escapes_what_comes_from_outside_and_writes_no_nan(tmp_path):
    folder = decided(tmp_path / "phase3")
    quantities = read_run(folder.path).evidence["quantities"]
    assert quantities
    hostile = "a | b `c` <img src=x> [click](http://evil)"
    gates = (dataclasses.replace(PHASE.gates[0], name=hostile), *PHASE.gates[1:])
    phase = dataclasses.replace(PHASE, gates=gates, title=hostile)
    decision = decide(phase, "t0004", dataclasses.replace(judged({}), refit_gain={}), {})
    text = decision_text(phase, decision, "test split")
    assert "<img" not in text.replace("\\<img", "")
    assert "[click](" not in text
    row = next(line for line in text.splitlines() if "click" in line and line.startswith("|"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 7  # six cells
    assert "nan" not in text


def test_decision_md_writes_numbers_as_the_page_does():
    base = {"group": "phase", "threshold": 0.0, "direction": "at most", "status": "undecided"}

    def gate(quantity, value, low, high, **more):
        given = base | {"key": quantity, "name": quantity, "quantity": quantity, "kind": "quantity"} | more
        return GateResult(value=value, ci_low=low, ci_high=high, **given)

    gates = (
        gate("integrity_open", 1.0, 1.0, 3.0),
        gate("latency_p95_ms", 123.456, 120.0, math.inf, threshold=100.0),
        gate("visual_masking_drop", 0.0512, 0.04, 0.06, threshold=0.05, direction="at least"),
        gate("v1_correlation", math.nan, math.nan, math.nan, threshold=0.9, status="not measured"),
        gate("ndcg_gain", 0.01, -math.inf, 0.02, direction="at least"),
    )
    late = {"key": "latency", "name": "slow", "value": 160.25, "ci_low": 140.5, "ci_high": math.inf}
    rule = ArchiveRule(threshold=150.0, direction="above", holds=False, measured=True, **late)
    decision = dataclasses.replace(decide(PHASE, None, None), gates=gates, archive_rules=(rule,))
    text = decision_text(PHASE, decision, "test split")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [[cell.strip() for cell in row.strip("|").split("|")][1:4] for row in rows[1:6]] == [
        ["1", "[1, 3]", "≤ 0"],
        ["123.5", "[120, ∞)", "≤ 100"],
        ["5.1 %", "[4.0 %, 6.0 %]", "≥ 5.0 %"],
        ["–", "–", "≤ 0.900"],
        ["+0.0100", "(−∞, +0.0200]", "≥ 0"],
    ]
    assert "| slow | 160.2 | [140.5, ∞) | above 150 |" in text
