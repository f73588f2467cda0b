"""Batches gathered by index from a dataset's memory-mapped arrays, padded to one length."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.data.batch import Batch

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]


class Arrays(Protocol):
    """What is gathered from: the arrays of a `RankingDataset`, which describes them."""

    @property
    def item_features(self) -> Mapping[str, Floats]: ...
    @property
    def query_features(self) -> Floats | None: ...
    @property
    def pair_features(self) -> Floats | None: ...
    @property
    def tuned_v1(self) -> tuple[str, Floats] | None: ...
    @property
    def offset(self) -> Rows: ...
    @property
    def judged_item(self) -> Rows: ...
    @property
    def labels(self) -> Numbers: ...
    @property
    def v1(self) -> Numbers: ...
    @property
    def v1_input(self) -> Numbers | None: ...
    @property
    def weight(self) -> Numbers: ...


class Gatherer:
    """The arrays of one dataset as tensors. They are not copied, and only read."""

    def __init__(self, data: Arrays) -> None:
        """Of the dataset as it is now: arrays that are replaced later are not seen."""
        self._features = {modality: as_tensor(values) for modality, values in data.item_features.items()}
        self._query = None if data.query_features is None else as_tensor(data.query_features)
        self._pair = None if data.pair_features is None else as_tensor(data.pair_features)
        self._tuned = None if data.tuned_v1 is None else as_tensor(data.tuned_v1[1])[:, None]
        self._offset, self._item = as_tensor(data.offset), as_tensor(data.judged_item)
        self._label, self._v1 = as_tensor(data.labels), as_tensor(data.v1)
        self._v1_input = None if data.v1_input is None else as_tensor(data.v1_input)
        self._weight = as_tensor(data.weight)

    def gather(self, rows: Rows, length: int | None = None) -> Batch:
        """The batch of query rows `[B]` on the CPU, padded to the longest list among them, or to `length`.

        Raises ValueError where none of the queries has a candidate.
        """
        query = torch.as_tensor(rows)
        first, count = self._offset[query], self._offset[query + 1] - self._offset[query]
        if length is None:
            length = int(count.max()) if len(query) else 0
        if length == 0:
            raise ValueError("a batch needs at least one query with a candidate")
        step = torch.arange(length)
        valid = step < count[:, None]
        padded = ~valid if not bool(valid.all()) else None
        position = first[:, None] + step
        if padded is not None:
            position = position.masked_fill_(padded, 0)
        item = self._item[position]

        def take(values: Tensor, index: Tensor) -> Tensor:
            taken = values.index_select(0, index.reshape(-1)).view(*index.shape, *values.shape[1:])
            if padded is not None:
                taken.masked_fill_(padded.view(*padded.shape, *([1] * (values.dim() - 1))), 0)
            return taken

        context = [take(self._query, query[:, None].expand_as(item))] if self._query is not None else []
        context += [take(self._pair, position)] if self._pair is not None else []
        context += [take(self._tuned, position)] if self._tuned is not None else []
        return Batch(
            features={m: take(values, item) for m, values in self._features.items()},
            context=torch.cat(context, dim=-1) if context else torch.zeros(*item.shape, 0),
            labels=take(self._label, position),
            v1=take(self._v1, position),
            weight=self._weight[query],
            v1_input=None if self._v1_input is None else take(self._v1_input, position),
            valid=valid,
            query=query,
            item=item if padded is None else item.masked_fill(padded, -1),
        )


def as_tensor(values: npt.NDArray[Any]) -> Tensor:
    """A read-only array as a tensor. Every reader copies out of it, so torch need not warn of writes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(values)
