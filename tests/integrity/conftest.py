"""Planted tables as frames, to plant faults in."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusion_models.data import open_dataset

SMALL = "planted:healthy?queries=300&candidates=8&validation_fraction=0.3&test_fraction=0.3"


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Every test here."""


@pytest.fixture(scope="session")
def healthy(_own_cache):
    return open_dataset(SMALL)


@pytest.fixture
def tables(healthy):
    """items, queries and judgements as frames whose rows stand in the dataset's order."""
    return {n: pq.read_table(f"{healthy.location}/{n}.parquet").to_pandas() for n in ("items", "queries", "judgements")}


@pytest.fixture
def written(tmp_path):
    """Writes frames as a dataset and opens it."""

    def write(tables):
        for name, frame in tables.items():
            columns = {}
            for column in frame:
                values = frame[column].tolist()
                wide = isinstance(values[0], np.ndarray | list)
                columns[column] = (
                    pa.array([np.float32(v).tolist() for v in values], pa.list_(pa.float32())) if wide else values
                )
            pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        return open_dataset(str(tmp_path))

    return write
