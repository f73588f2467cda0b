"""Whole runs in many planted worlds: how often is the verdict wrong? `python benchmarks/many_worlds.py --worlds 30`.

Each world of the prior (`worlds.py`) is run end to end by the command line, with default flags but for
`--time-budget 4m --no-ablation`, and gives a JSON line in many_worlds.jsonl. An interrupted benchmark goes on where it
was; a world is run again only with other flags. The table is printed and written to docs/many-worlds.md. Flags after
`--` replace the run's own: `-- --trials 6 --epochs 4 --time-budget 2m --no-ablation`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy import stats
from worlds import DROP, ENOUGH_QUERIES, GAIN, KINDS, PRIOR, REFIT_GAIN, SHARE_RANGE, World, true_of, world

HOME = Path(__file__).parents[1]
LINES = HOME / "benchmarks" / "many_worlds.jsonl"
PAGE = HOME / "docs" / "many-worlds.md"
FLAGS = "--time-budget 4m --no-ablation"
LONGEST = 3_600.0
"""Seconds after which a run counts as failed: many times its budget."""
CONFIDENCE = 0.95
"""Of a one-sided bound: 0 wrong of 100 is at most 3 %."""
MANY_QUERIES = 1_500
"""Test queries from which "nothing there" should be shown."""
AGAIN = ("failed", "wrong")
"""Outcomes that call for another run: a wrong verdict has its cause mended first."""
VERDICTS = ("GO", "PAUSE_AND_FIX", "ARCHIVE", "none")

Line = Mapping[str, Any]


def main() -> int:
    """Run the worlds that are missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=30, help="worlds 0 to N - 1")
    parser.add_argument("--only", type=int, nargs="*", help="these worlds alone")
    parser.add_argument("--lines", type=Path, default=LINES)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--results", help="keep the run folders here")
    own, flags = _split(sys.argv[1:])
    arguments = parser.parse_args(own)
    settings = " ".join(flags) if flags else FLAGS
    numbers = arguments.only if arguments.only is not None else range(arguments.worlds)
    left = pending((world(n) for n in numbers), read(arguments.lines), settings)
    for drawn in shown(left, len(left) < len(list(numbers))):
        with tempfile.TemporaryDirectory() as temporary:
            line = run(drawn, settings, Path(arguments.results or temporary).absolute())
        with arguments.lines.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(_row(line), flush=True)
        arguments.page.write_text(page(read(arguments.lines)))
    found = page(read(arguments.lines))
    arguments.page.write_text(found)
    print(found)
    return 0


def shown(worlds: Sequence[World], resumed: bool) -> Iterator[World]:
    """The worlds one by one, with how many are left and about how long they take, on stderr."""
    began = time.monotonic()
    for done, drawn in enumerate(worlds):
        each = (time.monotonic() - began) / done if done else math.nan
        left = f"about {each * (len(worlds) - done) / 60:.0f} min left" if done else "time left unknown yet"
        said = f"world {drawn.number}: {done} of {len(worlds)}{' that were left' if resumed else ''} done, {left}"
        print(said, file=sys.stderr, flush=True)
        yield drawn


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Own flags, and those of the runs behind `--`."""
    place = words.index("--") if "--" in words else len(words)
    return list(words[:place]), list(words[place + 1 :])


def read(lines: Path) -> list[Line]:
    """What has been run; nothing where there is no file."""
    return [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []


def pending(worlds: Any, done: Sequence[Line], settings: str) -> list[World]:
    """The worlds that have no line of these settings; what failed, or came out wrong, is run again."""
    known = {(line["source"], line["settings"]) for line in done if line["outcome"] not in AGAIN}
    return [drawn for drawn in worlds if (drawn.source, settings) not in known]


def run(drawn: World, settings: str, results: Path) -> dict[str, Any]:
    """One world end to end, in a process of its own."""
    name = f"world-{drawn.number:03d}"
    command = [sys.executable, "-m", "search.run", "phase3", "--data", drawn.source, "--name", name, "--fresh"]
    command += ["--results", str(results), *settings.split()]
    environment = {"FUSION_SEARCH_STATE": str(results / "state"), "PYTHONPATH": str(HOME)}
    true_of(drawn)  # kept, and a dial that cannot be is named before anything runs
    began = time.monotonic()
    try:
        ended = subprocess.run(
            command, env=os.environ | environment, cwd=HOME, capture_output=True, text=True, timeout=LONGEST
        )
        said = "" if ended.returncode == 0 else (ended.stderr.strip() or ended.stdout.strip())[-500:]
    except subprocess.TimeoutExpired:
        said = f"no verdict within {LONGEST:.0f} s"
    seconds = time.monotonic() - began
    file = results / name / "decision.json"
    decision = json.loads(file.read_text()) if not said and file.exists() else {}
    return line_of(drawn, settings, decision, seconds, said)


def line_of(drawn: World, settings: str, decision: Mapping[str, Any], seconds: float, said: str = "") -> dict[str, Any]:
    """What is kept of a run: the world, its truth, and the verdict with its reasons."""
    unread = decision.get("finalist") is None  # the budget ended before anything was confirmed: no verdict on the world
    true, verdict = true_of(drawn), "none" if unread else str(decision["verdict"])
    return {
        "prior": PRIOR,
        "world": drawn.number,
        "stratum": drawn.stratum,
        "kind": drawn.kind,
        "source": drawn.source,
        "test_queries": drawn.test_queries,
        "settings": settings,
        "worth": round(true.worth, 4),
        "gain": round(true.gain, 4),
        "go_is_wrong": true.go_is_wrong,
        "archive_is_wrong": true.archive_is_wrong,
        "verdict": verdict,
        "fragile": bool(decision.get("fragile", False)),
        "outcome": true.outcome(verdict),
        "reasons": list(decision.get("reasons", ())) or [said],
        "seconds": round(seconds),
        "commit": _commit(),
    }


def _commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HOME, capture_output=True, text=True)
    return asked.stdout.strip() or "unknown"


def page(lines: Sequence[Line]) -> str:
    """The Markdown page: for each prior and set of flags, the newest prior first, a summary, and a row a world."""
    parts = [INTRODUCTION]
    drawn = dict.fromkeys((line["prior"], line["settings"]) for line in lines)
    for prior, settings in sorted(drawn, key=lambda found: -found[0]):
        mine = latest([line for line in lines if (line["prior"], line["settings"]) == (prior, settings)])
        parts += [f"## Prior {prior}, `{settings}`", "", *summary(mine), "", *_rows(mine), ""]
    return "\n".join(parts).rstrip() + "\n"


def latest(lines: Sequence[Line]) -> list[Line]:
    """The last line of each world, by number."""
    last = {(line["world"], line["source"]): line for line in lines}
    return [last[key] for key in sorted(last)]


def summary(lines: Sequence[Line]) -> list[str]:
    """Verdicts by stratum, then each promise with an exact bound."""
    out = ["| stratum | worlds | GO | PAUSE_AND_FIX | ARCHIVE | no verdict |", "|---|---|---|---|---|---|"]
    for stratum in KINDS:
        found = [line["verdict"] for line in lines if line["stratum"] == stratum]
        out.append(f"| {stratum} | {len(found)} | " + " | ".join(str(found.count(v)) for v in VERDICTS) + " |")
    ended = [line for line in lines if line["outcome"] != "failed"]
    no_go = [line for line in ended if line["go_is_wrong"]]
    something = [line for line in ended if line["archive_is_wrong"]]
    healthy = [line for line in ended if line["stratum"] == "healthy" and line["test_queries"] >= ENOUGH_QUERIES]
    nothing = [line for line in no_go if line["stratum"] == "nothing there" and line["test_queries"] >= MANY_QUERIES]
    return [
        *out,
        "",
        f"- Wrong GO, of the worlds in which a GO is wrong: {_most(no_go, 'GO')}.",
        f"- Wrong ARCHIVE, of those in which there is something: {_most(something, 'ARCHIVE')}.",
        f"- GO in healthy worlds with the {ENOUGH_QUERIES} test queries that a GO asks: {_least(healthy, 'GO')}.",
        f"- ARCHIVE where nothing is there, with {MANY_QUERIES:,} test queries: {_least(nothing, 'ARCHIVE')}.",
    ]


def _most(lines: Sequence[Line], verdict: str) -> str:
    hits = sum(line["verdict"] == verdict for line in lines)
    return f"{hits} of {len(lines)} (at most {100 * upper_bound(hits, len(lines)):.0f} %)"


def _least(lines: Sequence[Line], verdict: str) -> str:
    hits = sum(line["verdict"] == verdict for line in lines)
    return f"{hits} of {len(lines)} (at least {100 * (1 - upper_bound(len(lines) - hits, len(lines))):.0f} %)"


def upper_bound(hits: int, of: int) -> float:
    """One-sided 95 % upper bound of a rate (Clopper and Pearson 1934); 1 where nothing was tried."""
    return 1.0 if hits >= of else float(stats.beta.ppf(CONFIDENCE, hits + 1, of - hits))


def _rows(lines: Sequence[Line]) -> list[str]:
    head = "| stratum | world | kind | test queries | image worth | gain over V1 | verdict | | seconds | commit |"
    return [head, "|---|---|---|---|---|---|---|---|---|---|", *(_row(line) for line in lines)]


def _row(line: Line) -> str:
    marked = {"wrong": "**wrong**"}.get(line["outcome"], line["outcome"])
    cells = [line["stratum"], line["world"], line["kind"], line["test_queries"], f"{line['worth']:+.4f}"]
    cells += [f"{line['gain']:+.4f}", line["verdict"], marked, line["seconds"], line["commit"]]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


INTRODUCTION = f"""# Many worlds

How often is a verdict wrong? `python benchmarks/many_worlds.py` draws planted worlds from a prior in three strata
(nothing there, boundary, healthy), runs phase 3 in each by the command line, and writes this page. The prior is in
`benchmarks/worlds.py`; `many_worlds.jsonl` beside it has each world's dials (its `--data`) and the verdict's reasons.

What is true of a world is its planted oracle's, on new items: the best prediction from every signal and V1. *Image
worth* is its nDCG@10 less that of the best without the image, *gain over V1* less V1's. GO is wrong where the image is
worth at most 0.005 or the gain lies below 0.020, the phase's gate; ARCHIVE where the image is worth more and the gain
is at least 0.015, below which phase 3 ends V2. PAUSE_AND_FIX is *open*: never wrong, but it decides nothing.

Prior 2 draws a healthy world again until its oracle gains {GAIN:.2f} over V1, loses {100 * DROP:.0f} % without the
image, and has refit gains of {REFIT_GAIN:.2f} and Shapley shares of {SHARE_RANGE[0]:.2f} to {SHARE_RANGE[1]:.2f}: a
margin to every gate. Prior 1 did not, and called healthy what lies on the boundary of a drop of 5 %.

The oracle says what could be reached, not what a ranker reaches from a few hundred training queries. We count ARCHIVE
as wrong even where the signal exists but cannot be learnt from so few queries. The oracle has no masking drop and no
shares, so a GO that passed those gates by error is not noticed.

A world that was run again shows its last run; `many_worlds.jsonl` keeps all of them, and docs/log.md says what was
mended in between (world 10 of prior 2 was ARCHIVE, and wrong, at 40533ee).

Bounds are exact and one-sided, of {100 * CONFIDENCE:.0f} % (Clopper and Pearson 1934): 0 wrong of 100 is at most 3 %.
"""


if __name__ == "__main__":
    sys.exit(main())
