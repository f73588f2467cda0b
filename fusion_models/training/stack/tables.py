"""A dataset's tables on the device that trains, and batches gathered there from indices."""

from __future__ import annotations

import mmap
import warnings
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch

SHARE_OF_MEMORY = 0.4
"""Of a GPU's free memory, and of a process's part of the whole, what tables may take; the rest is for weights and
activations."""


def _arrays(data: RankingDataset) -> dict[str, npt.NDArray[Any]]:
    """Everything that a batch is gathered from, by name; a modality's features as `features.NAME`."""
    some = {
        "offset": data.offset,
        "judged_item": data.judged_item,
        "labels": data.labels,
        "v1": data.v1,
        "weight": data.weight,
        "query": data.query_features,
        "pair": data.pair_features,
        "v1_input": data.v1_input,
        "tuned_v1": None if data.tuned_v1 is None else data.tuned_v1[1],
    }
    found = {name: array for name, array in some.items() if array is not None}
    return {f"features.{m}": values for m, values in data.item_features.items()} | found


def table_bytes(data: RankingDataset, device: torch.device) -> int:
    """Bytes of everything that a batch is gathered from and that does not lie on `device` yet."""
    return sum(array.nbytes for array in _arrays(data).values() if _key(array, device) not in _placed)


def placed_bytes(device: torch.device) -> int:
    """Bytes that tables of this process have on `device`."""
    return sum(each.tensor.nbytes for (_, on), each in list(_placed.items()) if on == device)


def fits(data: RankingDataset, device: torch.device, share: float = 1.0) -> bool:
    """Whether the tables should lie on `device`: always on a CPU, where they are mapped from disk already.

    `share` of the device is this process's: others may be about to fill what is free now.
    """
    if device.type != "cuda":
        return True
    free, total = torch.cuda.mem_get_info(device)
    own = SHARE_OF_MEMORY * min(1.0, share) * total - placed_bytes(device)
    return table_bytes(data, device) <= min(SHARE_OF_MEMORY * free, own)


def tables_for(data: RankingDataset, device: torch.device, share: float = 1.0) -> Tables | HostTables:
    """The tables on `device` where they fit, else gathered from the host."""
    if fits(data, device, share):
        try:
            return Tables(data, device)
        except torch.OutOfMemoryError:  # another process was quicker
            pass
    return HostTables(data, device)


class _Placed:
    """An array on a device, once in a process: many stacks read it, also those of other views of the data."""

    def __init__(self, array: npt.NDArray[Any], device: torch.device) -> None:
        self.array = array
        """Held, so that its memory, by which it may be known, is not another's meanwhile."""
        with warnings.catch_warnings():  # that the map is read-only: nothing here writes to a table
            warnings.simplefilter("ignore", UserWarning)
            self.tensor = torch.from_numpy(array).to(device)


_Key = tuple[tuple[object, ...], torch.device]
_placed: weakref.WeakValueDictionary[_Key, _Placed] = weakref.WeakValueDictionary()


def _key(array: npt.NDArray[Any], device: torch.device) -> _Key:
    """A whole mapped file is known by its path, any other array by its place in memory."""
    shape = array.shape, array.dtype.str
    base: object = array.base
    if isinstance(array, np.memmap) and isinstance(base, mmap.mmap):
        return (array.filename, array.offset, *shape), device
    return (array.ctypes.data, array.strides, *shape), device


def _place(array: npt.NDArray[Any], device: torch.device) -> _Placed:
    key = _key(array, device)
    found = _placed.get(key)
    if found is None:
        found = _placed[key] = _Placed(array, device)
    return found


class Tables:
    """Item, query and judgement tables on one device; on a CPU they are the mapped arrays, without a copy."""

    def __init__(self, data: RankingDataset, device: torch.device) -> None:
        self.device = self.index_device = device
        """`index_device`: where `gather` takes its rows from."""
        self._data = data
        self._held = {name: _place(array, device) for name, array in _arrays(data).items()}
        found = {name: placed.tensor for name, placed in self._held.items()}
        self.features = {m: found[f"features.{m}"] for m in data.item_features}
        self.offset, self.judged_item = found["offset"], found["judged_item"]
        self.labels, self.v1, self.weight = found["labels"], found["v1"], found["weight"]
        self.query, self.pair = found.get("query"), found.get("pair")
        self.v1_input, self.tuned_v1 = found.get("v1_input"), found.get("tuned_v1")

    def pictures(self) -> Tensor | None:
        """`[items, 3, S, S]` uint8, for rankers that decode them; None where the data have none."""
        return _pictures(self._data, self.device)

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
        self._data = data

    def pictures(self) -> Tensor | None:
        """As `Tables.pictures`: 3 kB an item, so they lie on the device here too."""
        return _pictures(self._data, self.device)

    def gather(self, rows: Tensor, length: int) -> Batch:
        """As `Tables.gather`, with `rows` on the host."""
        batch = self._data.gather(rows.flatten().numpy(), length=length)
        batch = batch._replace(v1_input=batch.v1_seen)  # vmap takes no None
        pinned = batch.changed(lambda x: x.pin_memory()) if self.device.type == "cuda" else batch
        lead = rows.shape
        return pinned.to(self.device).changed(lambda x: x.reshape(*lead, *x.shape[1:]))


def _take(table: Tensor, index: Tensor) -> Tensor:
    return table.index_select(0, index.reshape(-1)).view(*index.shape, *table.shape[1:])


_thumbnails: weakref.WeakValueDictionary[tuple[str, torch.device], Tensor] = weakref.WeakValueDictionary()
"""By the dataset's folder, so that they lie on a device once."""


def _pictures(data: RankingDataset, device: torch.device) -> Tensor | None:
    if data.schema.thumbnail is None:
        return None
    found = _thumbnails.get((str(data.folder), device))
    if found is None:
        found = data.thumbnails(np.arange(data.counts["items"])).to(device)
        _thumbnails[str(data.folder), device] = found
    return found
