"""A vector that only stands in for one is nobody's copy."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from fusion_models.data.planted import write_planted
from fusion_models.data.planted.presets import planted_config
from fusion_models.data.sources import open_dataset
from fusion_models.data.tables import vectors
from fusion_models.evaluation import _query_ssim
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


def png(colour: int) -> bytes:
    """A picture of one colour, another for each number."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (colour % 251, colour // 251, 90)).save(file, "PNG")
    return file.getvalue()


class PaintsWhite:
    """Stands for a ranker whose decoder paints nothing."""

    def decode_thumbnails(self, fused: torch.Tensor) -> torch.Tensor:
        """`[n, 3, 32, 32]`."""
        return torch.ones(len(fused), 3, 32, 32)


def test_items_without_a_picture_are_no_copies_and_no_pictures_rebuilt(tmp_path: Path) -> None:
    """A white thumbnail stands in for three of ten pictures, and for all of one query's."""
    write_planted(planted_config("planted?queries=160&candidates=8"), tmp_path)
    items, queries = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("items", "queries"))
    absent = (np.arange(items.num_rows) % 10 < 3) | (np.arange(items.num_rows) < 8)
    pictures = [None if gone else png(number) for number, gone in enumerate(absent)]
    pq.write_table(items.append_column("image", pa.array(pictures, pa.binary())), tmp_path / "items.parquet")
    recurring = pa.array([f"word {number % 5}" for number in range(queries.num_rows)])
    pq.write_table(queries.append_column("text", recurring), tmp_path / "queries.parquet")
    data = open_dataset(tmp_path, cache=tmp_path / "cache")
    found = {check.name: check for check in isolation_checks(data, "test")}
    shown = found["isolation of test: pictures (near-duplicates)"]
    assert (shown.status, shown.value) == ("pass", 1.0)
    assert found["isolation of test: queries"].status == "reported"  # so the items must be new

    batch = data.gather(np.arange(len(data.candidates)))
    ssim = _query_ssim(PaintsWhite(), data, batch, torch.zeros(*batch.item.shape, 4))  # type: ignore[arg-type]
    assert ssim.isnan().sum() == (absent[batch.item[:, :4].numpy()].all(axis=1)).sum() > 0
    assert ssim.nan_to_num().max() < 0.9  # of white that is white: 1
