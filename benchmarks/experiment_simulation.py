"""How far the experiment estimators keep their promises: `python benchmarks/experiment_simulation.py`.

Simulates experiments whose truth is known and prints, for each estimator, how often it errs (truth 0), covers, and
shows an effect that is there. Seeded: the tables repeat exactly.
"""

from __future__ import annotations

import argparse

import numpy as np

from search.experiment.guardrails import GUARDRAILS
from search.experiment.guardrails.watch import Watch
from search.experiment.ramp_simulation import (
    Chances,
    DailyLooks,
    Draw,
    centred_lognormal,
    drifting_ramp,
    last_look,
    safety_power,
    unlike_arms,
    unlike_shapes,
    watched,
)
from search.experiment.rollout import Baseline, rollout_plan
from search.experiment.simulation import Rates, fixed_horizon, interleaved, logged, peeking, sample_ratios
from search.experiment.sizes import power_of_means


def table(title: str, rows: dict[str, tuple[str, Rates]]) -> None:
    """One Markdown table."""
    print(f"\n{title}\n\n| estimator | truth | p <= 0.05 | covered | width |\n|---|---|---|---|---|")
    for name, (truth, rates) in rows.items():
        print(f"| {name} | {truth} | {rates.shown:.4f} | {rates.covered:.4f} | {rates.width:.4f} |")


def coin(generator: np.random.Generator, chance: float) -> Draw:
    """Units that are 1 with this chance, else 0."""
    return lambda shape: (generator.random(shape) < chance).astype(np.float64)


def revenue(generator: np.random.Generator, sigma: float, buyers: float) -> Draw:
    """Log-normal amounts of the units that buy, 0 of the others."""
    return lambda shape: generator.lognormal(sigma=sigma, size=shape) * (generator.random(shape) < buyers)


def ramp_tables(generator: np.random.Generator, runs: int) -> None:
    """Arms of unlike size, guardrails, drift, what safety stages show, what guardrails cost."""
    rows = {}
    for sigma in (0.5, 1.0, 1.5):
        for name, found in unlike_arms(generator, runs=runs, treatment=146, control=2_765, sigma=sigma).items():
            rows[f"{name}, sigma {sigma}"] = ("0", found)
    table("146 against 2,765 log-normal units, alike in both arms", rows)

    shapes: dict[str, tuple[Draw, Draw]] = {
        "log-normal in both": (centred_lognormal(generator, 1.0), centred_lognormal(generator, 1.0)),
        "normal, log-normal": (generator.standard_normal, centred_lognormal(generator, 1.0)),
        "log-normal, normal": (centred_lognormal(generator, 1.0), generator.standard_normal),
        "0.3 times log-normal, log-normal": (centred_lognormal(generator, 1.0, 0.3), centred_lognormal(generator, 1.0)),
        "3 times log-normal, log-normal": (centred_lognormal(generator, 1.0, 3.0), centred_lognormal(generator, 1.0)),
        "log-normal, its mirror image": (centred_lognormal(generator, 1.0), centred_lognormal(generator, 1.0, -1.0)),
    }
    print("\nV2's units, V1's: one mean, other shapes or scales (the side on which a 95 % interval misses)\n")
    print("| V2's, V1's | units | estimator | surely better, wrongly | surely worse, wrongly | width |")
    print("|---|---|---|---|---|---|")
    for title, arms in shapes.items():
        for treatment, control in ((146, 2_765), (1_000, 1_000)):
            sides = unlike_shapes(*arms, runs=runs, treatment=treatment, control=control)
            for name, side in sides.items():
                said = f"{side.above:.4f} | {side.below:.4f} | {side.width:.4f}"
                print(f"| {title} | {treatment:,} and {control:,} | {name} | {said} |")

    failed, money = GUARDRAILS[1], GUARDRAILS[4]
    few = max(50, runs // 4)
    cases = [
        ("failed answers, 0.2 % and 0.6 %", failed, coin(generator, 0.006), coin(generator, 0.002), 500),
        ("failed answers, 0.2 % and 0.3 % (the margin)", failed, coin(generator, 0.003), coin(generator, 0.002), 500),
        ("failed answers, 0.2 % and 30 %", failed, coin(generator, 0.3), coin(generator, 0.002), 500),
        ("failed answers, 0.2 % in both", failed, coin(generator, 0.002), coin(generator, 0.002), 500),
        *(
            (f"revenue, sigma {sigma}, {buyers:.0%} buy, alike", money, *[revenue(generator, sigma, buyers)] * 2, 200)
            for sigma, buyers in ((1.0, 0.05), (1.5, 1.0))
        ),
    ]
    level = 0.05 / len(GUARDRAILS)
    print(f"\n30 daily looks at a stage of 5 %, level {level:g}, {few} experiments a row\n")
    print(
        "| guardrail, V1 and V2 | units a day | read | clear at some look | stop at some look |\n|---|---|---|---|---|"
    )
    for title, guardrail, treated, kept, daily in cases:
        looks = DailyLooks(runs=few, share=0.05, daily=daily, days=30, alpha=level)
        found_watch = watched(generator, guardrail, treated, kept, looks)
        for name, seen in found_watch.items():
            print(f"| {title} | {daily} | {name} | {seen.clear:.4f} | {seen.stop:.4f} |")

    rows = {}
    for effect in (0.0, 0.01):
        ramp = drifting_ramp(generator, runs=runs, shares=(0.05, 0.2, 0.5), units=20_000, drift=0.06, effect=effect)
        rows |= {f"{name}, truth {effect}": (f"{effect}", found) for name, found in ramp.items()}
    table("Stages of 5, 20 and 50 %, 20,000 units each, 6 points of drift", rows)

    known = {"failed answers": (0.002, 0.0447), "slow answers": (0.05, 0.12), "revenue": (3.0, 6.0)}
    plan = rollout_plan(Baseline(mean=0.55, sd=0.3), 0.015)
    shown = safety_power(generator, plan, runs=runs)
    print("\nA plan for +0.015 at a deviation of 0.3\n")
    print("| share | units under V2 | would show | does, with power |\n|---|---|---|---|")
    for stage in plan.stages[:3]:
        power = (
            shown[stage.share]
            if stage.purpose == "safety"
            else power_of_means(stage.detectable_effect or 0.0, 0.3, stage.treatment_units, stage.control_units)
        )
        print(f"| {stage.share:.0%} | {stage.treatment_units:,} | {stage.detectable_effect:.4f} | {power:.3f} |")
    print("\nUnits under V2 at which a harmless V2 clears a guardrail, and the harm (its margin) stopped with them\n")
    print("| guardrail | mean, deviation | share | units | is clear | a harm of | is stopped |")
    print("|---|---|---|---|---|---|---|")
    for guardrail, (mean, sd) in ((g, known[g.name]) for g in GUARDRAILS if g.name in known):
        watch = Watch(guardrail=guardrail, mean=mean, sd=sd, alpha=level)
        amount = (mean**2 + sd**2) / mean
        for share in (0.05, 0.2, 0.5):
            size = watch.units_to_clear(ratio=(1 - share) / share)
            harm = watch.harm_to_stop(size.treatment, size.control)
            worse = mean + harm if guardrail.harm == "higher" else mean - harm
            same, harmed = (
                last_look(
                    generator,
                    guardrail,
                    Chances(size.treatment, now / amount, amount),
                    Chances(size.control, mean / amount, amount),
                    runs=runs,
                    alpha=level,
                )
                for now in (mean, worse)
            )
            said = f"{size.treatment:,} | {same.clear:.3f} | {harm:.4g} ({watch.margin:.4g}) | {harmed.stop:.3f}"
            print(f"| {guardrail.name} | {mean:g}, {sd:g} | {share:.0%} | {said} |")


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

    ramp_tables(np.random.default_rng([asked.seed, 1]), runs)


if __name__ == "__main__":
    main()
