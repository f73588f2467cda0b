"""How far the experiment estimators keep their promises: `python benchmarks/experiment_simulation.py`.

Simulates experiments whose truth is known and prints, for each estimator, how often it errs (truth 0), covers, and
shows an effect that is there. Seeded: the tables repeat exactly.
"""

from __future__ import annotations

import argparse

import numpy as np

from search.experiment.simulation import Rates, fixed_horizon, interleaved, logged, peeking, sample_ratios
from search.experiment.sizes import power_of_means


def table(title: str, rows: dict[str, tuple[str, Rates]]) -> None:
    """One Markdown table."""
    print(f"\n{title}\n\n| estimator | truth | p <= 0.05 | covered | width |\n|---|---|---|---|---|")
    for name, (truth, rates) in rows.items():
        print(f"| {name} | {truth} | {rates.shown:.4f} | {rates.covered:.4f} | {rates.width:.4f} |")


def main() -> None:
    """Every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    runs, generator = asked.runs, np.random.default_rng(asked.seed)
    print(f"{runs} experiments a row; standard error of a rate of 0.05: {np.sqrt(0.05 * 0.95 / runs):.4f}")

    rows = {}
    for effect in (0.0, 0.2):
        for name, rates in fixed_horizon(generator, runs=runs, units=400, effect=effect).items():
            rows[f"{name}, truth {effect}"] = (f"{effect}", rates)
    table("One look, 400 units an arm, log-normal outcomes of sd 1 (a ratio's truth is a fifth)", rows)
    print(f"\nPower computed for a difference of 0.2: {power_of_means(0.2, 1.0, 400, 400):.4f}")

    for skewed in (False, True):
        rows = {}
        for effect in (0.0, 0.15):
            found = peeking(generator, runs=runs, units=2_000, every=20, effect=effect, skewed=skewed)
            rows |= {f"{name}, truth {effect}": (f"{effect}", rates) for name, rates in found.items()}
        kind = "exponential" if skewed else "normal"
        table(f"100 looks, one after every 20 units an arm, 2,000 in all, {kind} outcomes", rows)

    rows = {}
    for strength in (0.0, 0.5, 1.0):
        found_rates = interleaved(generator, runs=runs, queries=150, strength=strength)
        rows[f"team draft, strength {strength}"] = ("no preference" if strength == 0 else "V2", found_rates)
    table("150 interleaved queries (covered: of no preference)", rows)

    logs = logged(generator, runs=runs, decisions=500)
    table("500 logged decisions, 4 actions", {name: ("known", rates) for name, rates in logs.items()})

    for kept in (1.0, 0.98, 0.9):
        alarms = sample_ratios(generator, runs=runs, days=30, daily=10_000, kept=kept).shown
        print(f"\nsample-ratio alarm within 30 daily looks at 10,000 units, {kept:.0%} of treatment kept: {alarms:.4f}")


if __name__ == "__main__":
    main()
