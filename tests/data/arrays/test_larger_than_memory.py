"""An item table larger than what the process may hold: it streams."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusion_models.data import open_dataset
from fusion_models.data.tables import vectors, write_tables

ITEMS, WIDTH = 18_000, 1024  # 2 x 74 MB of features

MEMORY_BYTES = 75_000_000
"""What a child may hold of its own, on top of what its imports took."""

_LIMITED = """
import resource, sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fusion_models.data import open_dataset

pa.set_cpu_count(1)  # a thread's stack counts too
pa.set_io_thread_count(1)
lines = Path("/proc/self/status").read_text().splitlines()
held = 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmData")))
resource.setrlimit(resource.RLIMIT_DATA, (held + int(sys.argv[2]),) * 2)
if sys.argv[3] == "open":
    data = open_dataset(sys.argv[1])
    print(data.gather(data.rows("test")).features["text"].shape[1])
else:
    print(pq.read_table(sys.argv[1] + "/items.parquet", use_threads=False).num_rows)
"""


def limited(folder: Path, what: str, memory_bytes: int = MEMORY_BYTES) -> subprocess.CompletedProcess[str]:
    """Run a child that may not hold more than `memory_bytes`, maps of files apart."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    command = [sys.executable, "-c", _LIMITED, str(folder), str(memory_bytes), what]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


def write_big(folder: Path, chunk: np.ndarray, row_group_rows: int) -> int:
    """Items of `chunk`, shifted, over and over; 30 queries. The bytes of the item table."""
    width = pa.list_(pa.float32(), WIDTH)
    fields = [("item_id", pa.string()), ("visual", width), ("text", width), ("metadata", pa.list_(pa.float32(), 1))]
    parts = []
    for start in range(0, ITEMS, len(chunk)):
        item_ids = pa.array([f"i{start + n}" for n in range(len(chunk))])
        columns = [item_ids, vectors(chunk + start), vectors(chunk - start), vectors(chunk[:, :1])]
        parts.append(pa.table(columns, schema=pa.schema(fields)))
    pairs = [(query, item) for query in range(30) for item in range(query, ITEMS, 1_000)]
    queries = {"query_id": [f"q{n}" for n in range(30)], "split": ["train", "validation", "test"] * 10}
    judgements = {
        "query_id": [f"q{query}" for query, _ in pairs],
        "item_id": [f"i{item}" for _, item in pairs],
        "label": [float(item % 3) for _, item in pairs],
        "v1_score": [float(item % 7) for _, item in pairs],
    }
    write_tables(folder, {"queries": pa.table(queries), "judgements": pa.table(judgements)})
    path = folder / "items.parquet"
    with pq.ParquetWriter(path, pa.schema(fields), compression="none", use_dictionary=False) as writer:
        writer.write_table(pa.concat_tables(parts), row_group_size=row_group_rows)
    return path.stat().st_size


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the limit is Linux's")
@pytest.mark.parametrize("row_group_rows", [2_000, ITEMS])
def test_a_table_larger_than_the_memory_allowed_opens(tmp_path: Path, row_group_rows: int) -> None:
    chunk = np.random.default_rng(0).normal(size=(2_000, WIDTH)).astype(np.float32)
    assert write_big(tmp_path / "big", chunk, row_group_rows) > 1.9 * MEMORY_BYTES
    answer = limited(tmp_path / "big", "open")
    assert answer.stdout == "18\n", answer.stderr
    data = open_dataset(tmp_path / "big")
    np.testing.assert_array_equal(data.item_features["visual"][ITEMS - 1], chunk[-1] + (ITEMS - 2_000))
    if row_group_rows == ITEMS:
        assert "malloc" in limited(tmp_path / "big", "read").stderr  # the limit is a limit: the whole does not fit
