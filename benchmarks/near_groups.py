"""Near-duplicate groups: processor seconds, memory beside the features, and which pairs at the very limit are missed.

`python benchmarks/near_groups.py --rows 100000 --columns 64`. Half of the rows are normal draws, the others their twins
at cosines about the limit of 0.999.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from fusion_models.data.views.near_groups import COSINE, near_groups


def main() -> None:
    """Measure one size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=64)
    asked = parser.parse_args()
    random, half, width = np.random.default_rng(1), asked.rows // 2, asked.columns
    rows = np.empty((2 * half, width), dtype=np.float32)
    random.standard_normal(out=rows[:half], dtype=np.float32)
    rows[half:] = rows[:half] + 0.0425 * random.standard_normal((half, width), dtype=np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    near = np.einsum("nd,nd->n", rows[:half], rows[half:]) / (lengths[:half] * lengths[half:]) >= COSINE
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    groups = near_groups(lambda picked: rows[picked].astype(np.float64), 2 * half)
    seconds = time.process_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    missed = int((groups[:half] != groups[half:])[near].sum())
    print(f"{2 * half:,} rows of {width}: {seconds:.1f} processor seconds, {grown:.0f} MiB more at the peak")
    print(f"missed {missed} of {near.sum():,} near pairs")


if __name__ == "__main__":
    main()
