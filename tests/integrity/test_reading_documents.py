"""What is read of the documents is what the dataset holds, and a long list pads nothing."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from fusion_models.data import open_dataset
from fusion_models.data.dataset import RankingDataset
from fusion_models.integrity import documents as module
from fusion_models.integrity import leak_check, logged_check
from fusion_models.integrity.documents import PAIR, QUERY, read_documents

LONG, SHORT, WIDTHS = 3_000, 200, {"visual": 40, "text": 40, "metadata": 5}


@pytest.fixture(scope="module")
def uneven(_own_cache, tmp_path_factory):
    """Two lists of 3,000 candidates among 200 of 3 to 8; features of queries and pairs."""
    folder, random = tmp_path_factory.mktemp("uneven"), np.random.default_rng(0)
    lengths = np.r_[LONG, random.integers(3, 9, SHORT), LONG]
    count = int(lengths.sum())

    def vectors(rows, width):
        flat = pa.array(random.standard_normal(rows * width).astype(np.float32))
        return pa.FixedSizeListArray.from_arrays(flat, width)

    items = {m: vectors(count, width) for m, width in WIDTHS.items()}
    pq.write_table(pa.table({"item_id": [f"i{n}" for n in range(count)], **items}), folder / "items.parquet")
    queries = [f"q{n}" for n in range(len(lengths))]
    split = ["train"] * (len(lengths) - 40) + ["validation", "test"] * 19 + ["train"] * 2
    split[:2] = ["test", "train"]
    split[0], split[1] = "train", "test"
    table = {"query_id": queries, "split": split, "features": vectors(len(queries), 3)}
    pq.write_table(pa.table(table), folder / "queries.parquet")
    judged = {
        "query_id": np.repeat(queries, lengths),
        "item_id": [f"i{n}" for n in range(count)],
        "label": random.integers(0, 3, count).astype(float),
        "v1_score": random.standard_normal(count),
        "features": vectors(count, 2),
    }
    pq.write_table(pa.table(judged), folder / "judgements.parquet")
    return open_dataset(str(folder))


def test_documents_are_the_datasets_own(uneven):
    read = read_documents(uneven, "train", np.random.default_rng(0), queries=1_000)
    assert "2 of them by 1,000 of their candidates" in read.said
    assert read.valid.shape == (len(uneven.rows("train")), 1_000)
    assert torch.equal(read.query, read.valid.nonzero()[:, 0])
    items = read.item.numpy()
    for modality in WIDTHS:
        np.testing.assert_array_equal(read.blocks[modality], uneven.item_features[modality][items])
    judged = {int(item): at for at, item in enumerate(uneven.judged_item)}
    at = np.array([judged[int(item)] for item in items])
    np.testing.assert_array_equal(read.labels[read.valid], uneven.labels[at])
    np.testing.assert_array_equal(read.padded(read.labels[read.valid]), read.labels)
    np.testing.assert_array_equal(read.v1[read.valid], uneven.v1[at])
    assert (read.blocks[PAIR].shape[1], read.blocks[QUERY].shape[1]) == (2, 3)
    rows = np.searchsorted(uneven.offset, at, side="right") - 1
    np.testing.assert_array_equal(read.place, at - uneven.offset[rows])
    assert len(np.unique(items)) == len(items)


def test_queries_beyond_the_documents_are_left_out_and_it_is_said(uneven, monkeypatch):
    monkeypatch.setattr(module, "DOCUMENTS", 300)
    read = read_documents(uneven, "train", np.random.default_rng(0), queries=1_000)
    assert len(read.query) <= 300
    assert "left out" in read.said


def test_one_long_list_does_not_pad_the_others(uneven, monkeypatch):
    """What is gathered at once stays within the bound, or is one list; all checks of leaks read so."""
    largest = []
    gather = RankingDataset.gather

    def watched(self, rows, *rest, **more):
        batch = gather(self, rows, *rest, **more)
        largest.append((len(batch.valid), batch.valid.numel() * sum(WIDTHS.values())))
        return batch

    monkeypatch.setattr(module, "GATHERED", 200_000)
    monkeypatch.setattr(module, "DOCUMENTS", 3_000)
    monkeypatch.setattr(RankingDataset, "gather", watched)
    leak_check(uneven, np.random.default_rng(0))
    logged_check(uneven, "train", np.random.default_rng(0))
    read_documents(uneven, "train", np.random.default_rng(0), queries=1_000)
    assert max(lists for lists, _ in largest) > 20
    assert all(lists == 1 or numbers <= 200_000 for lists, numbers in largest)
