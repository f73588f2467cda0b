"""Do intervals hold their level, and what does a design show? `python benchmarks/level_and_power.py`.

Trains 24 trainings of each deciding arm in planted worlds and keeps their scores (`--recorded`; an interrupted one goes
on where it was), then draws thousands of runs from them and prints a Markdown table: coverage of every interval,
how often each of its limits lies on the wrong side of the truth (a gate whose threshold is the truth passes falsely as
often as the interval lies wholly above it: 2.5 % is promised), its half-width, and what the design shows.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence

import numpy as np
import torch
from pseudo_runs import Decide, Design, draw, intervals, phase3_gates
from recorded_trainings import WORLDS, Recorded, add_arguments, read, record, size_of

from fusion_models.metrics import Interval, detectable

DESIGNS = (Design(5, 300), Design(5, 720), Design(8, 720), Design(12, 1_500))
GATES = {"artefact: visual masking drop": 0.05, "artefact: gain over V1": 0.015, "lead over the base": -0.005}
"""Thresholds that the table reports the power of; a refit gain's is REFIT."""
REFIT = 0.005
COLUMNS = (
    "world",
    "n × Q",
    "quantity",
    "truth",
    "coverage %",
    "above the truth %",
    "below it %",
    "half-width",
    "passes %",
    "80 % power at",
)


def table(recorded: Recorded, design: Design, runs: int, seed: int, decide: Decide | None = None) -> list[str]:
    """Markdown rows of one design in one world; with `decide`, a row of verdicts too."""
    found: dict[str, list[Interval]] = {}
    truth: dict[str, list[float]] = {}
    verdicts: list[str] = []
    for run in draw(recorded, design, runs, np.random.default_rng(seed)):
        for name, interval in intervals(run).items():
            found.setdefault(name, []).append(interval)
            truth.setdefault(name, []).append(run.truth[name])
        if decide is not None:
            verdicts.append(decide(run))
    rows = [_row(recorded.world.name, design, name, found[name], truth[name]) for name in found]
    if verdicts:
        shares = ", ".join(f"{v} {100 * verdicts.count(v) / runs:.1f} %" for v in sorted(set(verdicts)))
        rows.append(f"| {recorded.world.name} | {_size(design)} | verdict | {shares} |" + " |" * (len(COLUMNS) - 4))
    return rows


def summary(rows: Sequence[str]) -> list[str]:
    """Mean coverage and the worst false pass of each quantity, over worlds and designs."""
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    out = []
    for name in dict.fromkeys(row[2] for row in cells if row[2] != "verdict"):
        own = [row for row in cells if row[2] == name]
        covered = [float(row[4]) for row in own]
        passed = [max(float(row[5]), float(row[6])) for row in own]
        said = f"coverage {np.mean(covered):.1f} % ({min(covered):.1f} to {max(covered):.1f})"
        out.append(f"- {name}: {said}; a limit on the wrong side at most {max(passed):.1f} %")
    return out


def _row(world: str, design: Design, name: str, found: Sequence[Interval], truth: Sequence[float]) -> str:
    low, high = np.array([i.low for i in found]), np.array([i.high for i in found])
    true = np.array(truth)
    threshold = GATES.get(name, REFIT if "refit gain" in name else None)
    least = np.median([detectable(i.variance, level=i.level) for i in found[:200]])
    cells = (
        world,
        _size(design),
        name,
        f"{np.mean(true):+.4f}",
        f"{100 * np.mean((low <= true) & (true <= high)):.1f}",
        f"{100 * np.mean(low > true):.1f}",
        f"{100 * np.mean(high < true):.1f}",
        f"{np.median((high - low) / 2):.4f}",
        f"{100 * np.mean(low > threshold):.1f} (at least {threshold})" if threshold is not None else "",
        f"{least:+.4f}",
    )
    return "| " + " | ".join(cells) + " |"


def _size(design: Design) -> str:
    return f"{design.trainings} × {design.queries}"


def _design(text: str) -> Design:
    """`5x720`."""
    trainings, queries = text.split("x")
    return Design(int(trainings), int(queries))


def main() -> int:
    """Record, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--runs", type=int, default=2_000, help="of each design in each world")
    parser.add_argument(
        "--designs", nargs="*", help="such as 5x720: trainings of each arm x queries", default=DESIGNS, type=_design
    )
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals: a second look has 0.9924")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draw-only", action="store_true", help="train nothing: worlds that are not recorded fail")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    size, rows = size_of(arguments), []
    for world in (world for world in WORLDS if world.name in arguments.worlds):
        if not arguments.draw_only:
            for line in record(world, size, arguments.recorded):
                print(line, file=sys.stderr, flush=True)
        recorded = read(world, size, arguments.recorded)
        for design in (dataclasses.replace(one, level=arguments.level) for one in arguments.designs):
            rows += table(recorded, design, arguments.runs, arguments.seed, phase3_gates)
            print(f"{world.name}, {_size(design)}: {arguments.runs} runs drawn", file=sys.stderr, flush=True)
    print("| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS), *rows, "", *summary(rows), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
