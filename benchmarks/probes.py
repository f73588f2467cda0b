"""What the probes find of the image, and of a signal planted into its columns: one line a dataset and probe.

python benchmarks/probes.py planted:seed-case planted:no-visual [--split validation] [--seeds 5]
"""

from __future__ import annotations

import argparse
import time

import torch

from fusion_models.data import open_dataset
from fusion_models.data.clusters import query_clusters
from fusion_models.metrics import Interval
from fusion_models.probes import PROBES, plant_signal, probe_power


def said(found: Interval) -> str:
    """Mean and interval."""
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--split", default="test")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--suspect", default="visual")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| data | probe | with - without | planted, worth | found | counts | processor s |")
    print("|---|---|---|---|---|---|---|")
    for source in options.data:
        data = open_dataset(source)
        groups, plant = query_clusters(data, options.split), plant_signal(data, suspect=options.suspect)
        for name, pair in PROBES.items():
            began = time.process_time()

            def probe(of, split, pair=pair):  # type: ignore[no-untyped-def]
                return pair(of, split, suspect=options.suspect, seeds=range(options.seeds))

            gain = probe(data, options.split).gain(groups)
            power = probe_power(data, options.split, probe, plant, clusters=groups)
            spent = time.process_time() - began
            counts = "yes" if power.counts else "no"
            cells = (f"`{source}`", name, said(gain), f"{plant.worth:.4f}", said(power.gain), counts, f"{spent:.0f}")
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
