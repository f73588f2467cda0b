"""A vector that only stands in for one is nobody's copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusion_models.data.planted import write_planted
from fusion_models.data.planted.presets import planted_config
from fusion_models.data.sources import open_dataset
from fusion_models.data.tables import vectors
from fusion_models.integrity import isolation_checks


@pytest.mark.parametrize(("modality", "name"), [("visual", "pictures"), ("text", "texts")])
def test_items_without_a_vector_are_no_copies_of_one_another(modality: str, name: str, tmp_path: Path) -> None:
    write_planted(planted_config("planted?queries=160&candidates=8"), tmp_path)
    items = pq.read_table(tmp_path / "items.parquet")
    values = np.array(items[modality].to_pylist(), dtype=np.float32)
    absent = np.arange(len(values)) % 5 == 0
    values[absent] = values[~absent].mean(axis=0)
    items = items.set_column(items.schema.get_field_index(modality), modality, vectors(values))

    def isolation(table: pa.Table) -> float:
        pq.write_table(table, tmp_path / "items.parquet")
        checks = isolation_checks(open_dataset(tmp_path, cache=tmp_path / "cache"), "test")
        return next(c.value for c in checks if c.name == f"isolation of test: {name} (near-duplicates)")

    assert isolation(items) == pytest.approx(0.8, abs=0.05)
    assert isolation(items.append_column(f"missing_{modality}", pa.array(absent))) == 1.0
