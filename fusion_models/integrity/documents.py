"""The documents that leaks are looked for in: a sample of queries, laid out flat, so that no list pads the others.

A batch is padded to its longest list, and hundreds of lists beside one of 10,000 candidates would take tens of GB. Here
lists of about one length are gathered a few at a time, a very long one is read by some of its candidates, and only
labels and scores are padded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.probes.columns import cosines

DOCUMENTS = 40_000
"""Documents that are read at the most; whole queries are left out beyond it."""
LONGEST = 1_000
"""Candidates of one list that are read, drawn at random of a longer one: forty such lists fit."""
GATHERED = 2**26
"""Numbers that are padded at once: 256 MiB."""
PAIR, QUERY, MEETING = "pair features", "query features", "cosines with the query"

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Documents:
    """N documents of Q queries, query by query; L is the longest list that is read."""

    query: Tensor
    """`[N]` int64, from 0."""
    place: Tensor
    """`[N]` int64: where in its list the table has it."""
    item: Tensor
    """`[N]` int64: the item's row in the dataset."""
    blocks: dict[str, Tensor]
    """Each modality, `PAIR`, `QUERY` and `MEETING` -> raw features `[N, D]` float32; none without columns."""
    valid: Tensor
    """`[Q, L]` bool."""
    labels: Tensor
    """`[Q, L]` float64; 0 where padded."""
    v1: Tensor
    """`[Q, L]` float64; 0 where padded."""
    said: str
    """How much was read, in words."""

    def padded(self, values: npt.NDArray[np.float64] | Tensor) -> Tensor:
        """`[N, ...]` -> `[Q, L, ...]`, zeros where padded."""
        flat = torch.as_tensor(values)
        out = torch.zeros(*self.valid.shape, *flat.shape[1:], dtype=flat.dtype)
        out[self.valid] = flat
        return out


def read_documents(
    data: RankingDataset, split: str, generator: np.random.Generator, *, queries: int, longest: int = LONGEST
) -> Documents:
    """At most so many queries of a split, drawn at random, and `DOCUMENTS` documents of them (but one query at least).

    Of a list with more than `longest` candidates so many are drawn. Raises ValueError where the split has no query.
    """
    drawn = generator.permutation(data.rows(split))[:queries]
    if not len(drawn):
        raise ValueError(f"{data.source} has no query in its split {split!r}: there is nothing to look for leaks in")
    read = np.cumsum(np.minimum(data.candidates[drawn], longest))
    rows = drawn[: max(1, int(np.searchsorted(read, DOCUMENTS, "right")))]
    order = np.argsort(data.candidates[rows], kind="stable")
    parts, start = [], 0
    width = sum(data.schema.widths.values()) + data.schema.query + data.schema.pair + 4
    while start < len(order):
        count = max(1, GATHERED // (width * max(1, int(data.candidates[rows[order[start]]]))))
        while count > 1 and count * width * int(data.candidates[rows[order[start : start + count]]].max()) > GATHERED:
            count = (count + 1) // 2
        chunk = order[start : start + count]
        parts.append(_flat(data, data.gather(rows[chunk]), torch.from_numpy(chunk), _Drawn(longest, generator)))
        start += count
    return _joined(parts, len(rows), _said(split, data.candidates[rows], len(drawn), longest))


@dataclass(frozen=True)
class _Drawn:
    """Which candidates of a long list are read."""

    longest: int
    generator: np.random.Generator

    def __call__(self, valid: Tensor) -> Tensor:
        """`[B, L]` of the real documents `valid` `[B, L]`."""
        keep = valid.clone()
        for row in (valid.sum(1) > self.longest).nonzero()[:, 0].tolist():
            real = valid[row].nonzero()[:, 0]
            keep[row] = False
            keep[row, real[torch.from_numpy(self.generator.permutation(len(real))[: self.longest])]] = True
        return keep


def _flat(
    data: RankingDataset, batch: Batch, numbers: Tensor, drawn: _Drawn
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Blocks of columns, and what else is known of the documents of a batch; `numbers` `[B]` are their queries'."""
    keep = drawn(batch.valid)
    query, pair = data.schema.query, data.schema.pair
    raw = {m: batch.features[m] for m in data.schema.modalities}
    raw |= {QUERY: batch.context[..., :query], PAIR: batch.context[..., query : query + pair]}
    raw |= {MEETING: cosines(batch, data.schema.modalities)}
    at = keep.nonzero()
    known = {"query": numbers[at[:, 0]], "place": at[:, 1], "item": batch.item[keep]}
    known |= {"labels": batch.labels[keep].double(), "v1": batch.v1[keep].double()}
    return {name: values[keep] for name, values in raw.items() if values.shape[-1]}, known


def _joined(parts: list[tuple[dict[str, Tensor], dict[str, Tensor]]], queries: int, said: str) -> Documents:
    known = {name: torch.cat([other[name] for _, other in parts]) for name in parts[0][1]}
    order = torch.argsort(known["query"], stable=True)
    known = {name: values[order] for name, values in known.items()}
    blocks = {name: torch.cat([columns[name] for columns, _ in parts])[order] for name in parts[0][0]}
    lengths = torch.bincount(known["query"], minlength=queries)
    valid = torch.arange(int(lengths.max())) < lengths[:, None]
    out = {name: torch.zeros(valid.shape, dtype=torch.float64) for name in ("labels", "v1")}
    for name, values in out.items():
        values[valid] = known.pop(name)
    return Documents(**known, **out, blocks=blocks, valid=valid, said=said)


def _said(split: str, lengths: npt.NDArray[np.int64], drawn: int, longest: int) -> str:
    said = f"{len(lengths)} {'training' if split == 'train' else split} queries read"
    long = int((lengths > longest).sum())
    said += f", {drawn - len(lengths)} more left out beyond the documents that are read" if len(lengths) < drawn else ""
    return said + (f", {long} of them by {longest:,} of their candidates" if long else "")
