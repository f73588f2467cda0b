"""What the probes find of the image, and of a signal planted into its columns: one line a dataset and probe.

python benchmarks/probes.py planted:seed-case planted:no-visual [--split validation] [--seeds 5]
"""

from __future__ import annotations

import argparse
import functools
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
    print("| data | probe | with - without | planted, worth | plants | found | counts | processor s |")
    print("|---|---|---|---|---|---|---|---|")
    for source in options.data:
        data = open_dataset(source)
        groups = query_clusters(data, options.split)
        for name, pair in PROBES.items():
            began = time.process_time()

            probe = functools.partial(pair, suspect=options.suspect)
            gain = probe(data, options.split, seeds=range(options.seeds)).gain(groups)
            plant = functools.partial(plant_signal, data, suspect=options.suspect)
            power = probe_power(data, options.split, probe, plant=plant, clusters=groups)
            spent = time.process_time() - began
            counts = "yes" if power.counts else "no"
            found = (f"{power.worth:.4f}", f"{len(power.plants)}", said(power.gain), counts)
            cells = (f"`{source}`", name, said(gain), *found, f"{spent:.0f}")
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
