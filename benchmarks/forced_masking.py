"""What a masking drop alone is worth: `python benchmarks/forced_masking.py`.

Searches `planted:no-visual`, whose image is noise, with one objective, the zero-masking drop, one gate, the same, and
the drop itself among the loss terms (`loss.visual_importance_form=masking`). The drop rises far above what the base
recipe shows; the decision must call the finalist fragile and never say GO, since the refit gain stays at 0.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from search.options import RunOptions
from search.pipeline.phase import run_phase
from spaces import PHASES, Choice, Float, Phase, Weight
from spaces.phases import BALANCED, VISUAL_DROP


def forced() -> Phase:
    """Phase 1 told to maximise the masking drop and nothing else."""
    phase = PHASES["phase1"]
    ranges = phase.ranges | {
        "loss.visual_importance": Weight(low=0.03, high=3.0),
        "loss.visual_importance_form": Choice(values=("reliance", "masking")),
        "loss.reliance_margin": Float(low=0.03, high=1.0, log=True),
    }
    drop = next(o for o in phase.objectives if o.name == "visual_masking_drop")
    return dataclasses.replace(
        phase,
        title="Masking drop alone",
        objectives=(dataclasses.replace(drop, bound=None),),
        gates=(VISUAL_DROP,),
        ranges=ranges,
        known={"balanced": BALANCED},
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="planted:no-visual")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as results:
        options = RunOptions(
            phase="phase1", data=arguments.data, trials=arguments.trials, seed=arguments.seed, results=results
        )
        folder = run_phase(options, Console(soft_wrap=True), phase=forced())
        decision = json.loads(Path(folder.path / "decision.json").read_text())
    drop = next(g for g in decision["gates"] if g["name"] == VISUAL_DROP.name)
    print(f"drop {drop['value']:.3f} ({drop['status']}), fragile {decision['fragile']}: {decision['verdict']}")
    return 0 if decision["fragile"] and decision["verdict"] != "GO" else 1


if __name__ == "__main__":
    sys.exit(main())
