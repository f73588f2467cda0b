"""A dataset's tables on the device that trains, and batches gathered there from indices."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch

SHARE_OF_FREE_MEMORY = 0.4
"""Of a GPU's free memory, what the tables may take; the rest is for weights and activations."""


def table_bytes(data: RankingDataset) -> int:
    """Bytes of everything that a batch is gathered from, thumbnails included."""
    arrays: list[npt.NDArray[Any] | None] = [*data.item_features.values(), data.query_features, data.pair_features]
    arrays += [data.offset, data.judged_item, data.labels, data.v1]
    found = sum(array.nbytes for array in arrays if array is not None)
    if data.schema.thumbnail is not None:
        found += 3 * data.schema.thumbnail**2 * data.counts["items"]
    return found


def fits(data: RankingDataset, device: torch.device) -> bool:
    """Whether the tables should lie on `device`: always on a CPU, where they are mapped from disk already."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return table_bytes(data) <= SHARE_OF_FREE_MEMORY * free


class Tables:
    """Item, query and judgement tables on one device; on a CPU they are the mapped arrays, without a copy."""

    def __init__(self, data: RankingDataset, device: torch.device) -> None:
        self.device = self.index_device = device
        """`index_device`: where `gather` takes its rows from."""
        self.features = {m: self._place(values) for m, values in data.item_features.items()}
        self.offset = self._place(data.offset)
        self.judged_item = self._place(data.judged_item)
        self.labels = self._place(data.labels)
        self.v1 = self._place(data.v1)
        self.query = None if data.query_features is None else self._place(data.query_features)
        self.pair = None if data.pair_features is None else self._place(data.pair_features)
        self.weight = self._place(data.weight)
        self.v1_input = None if data.v1_input is None else self._place(data.v1_input)
        self.tuned_v1 = None if data.tuned_v1 is None else self._place(data.tuned_v1[1])
        self.pictures = _pictures(data, device)

    def _place(self, values: npt.NDArray[Any]) -> Tensor:
        with warnings.catch_warnings():  # that the map is read-only: nothing here writes to a table
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(values).to(self.device)

    def gather(self, rows: Tensor, length: int) -> Batch:
        """The batch of query rows `[..., B]`, int64 and on this device, padded to `length`; no word to the host.

        Shapes are those of a `Batch` behind the leading dimensions of `rows`.
        """
        first = self.offset[rows].unsqueeze(-1)
        step = torch.arange(length, device=self.device)
        valid = step < self.offset[rows + 1].unsqueeze(-1) - first
        position = torch.where(valid, first + step, 0)
        item = _take(self.judged_item, position)

        def read(table: Tensor, index: Tensor) -> Tensor:
            taken = _take(table, index)
            return taken * valid.reshape(*valid.shape, *([1] * (taken.dim() - valid.dim())))

        context = [] if self.query is None else [read(self.query, rows.unsqueeze(-1).expand_as(item))]
        context += [] if self.pair is None else [read(self.pair, position)]
        context += [] if self.tuned_v1 is None else [read(self.tuned_v1, position).unsqueeze(-1)]
        v1 = read(self.v1, position)
        return Batch(
            features={m: read(table, item) for m, table in self.features.items()},
            context=torch.cat(context, dim=-1) if context else torch.zeros(*item.shape, 0, device=self.device),
            labels=read(self.labels, position),
            v1=v1,
            valid=valid,
            query=rows,
            item=torch.where(valid, item, -1),
            weight=self.weight[rows],
            v1_input=v1 if self.v1_input is None else read(self.v1_input, position),  # vmap takes no None
        )


class HostTables:
    """The same where a GPU has no room for the tables: gathered from the map, through pinned memory."""

    def __init__(self, data: RankingDataset, device: torch.device) -> None:
        self.device = device
        self.index_device = torch.device("cpu")
        self.pictures = _pictures(data, device)
        self._data = data

    def gather(self, rows: Tensor, length: int) -> Batch:
        """As `Tables.gather`, with `rows` on the host."""
        batch = self._data.gather(rows.flatten().numpy(), length=length)
        batch = batch._replace(v1_input=batch.v1_seen)  # vmap takes no None
        pinned = batch.changed(lambda x: x.pin_memory()) if self.device.type == "cuda" else batch
        lead = rows.shape
        return pinned.to(self.device).changed(lambda x: x.reshape(*lead, *x.shape[1:]))


def _take(table: Tensor, index: Tensor) -> Tensor:
    return table.index_select(0, index.reshape(-1)).view(*index.shape, *table.shape[1:])


def _pictures(data: RankingDataset, device: torch.device) -> Tensor | None:
    """`[items, 3, S, S]` uint8: 3 kB an item, so they go to the device in any case."""
    if data.schema.thumbnail is None:
        return None
    return data.thumbnails(np.arange(data.counts["items"])).to(device)
