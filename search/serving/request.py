"""What a request holds, what is wrong with one, and how it becomes a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.data.arrays.v1_scores import v1_input
from fusion_models.data.batch import Batch
from fusion_models.data.tables.columns import EXACT_INTEGER
from search.serving.item_columns import Value, item_columns

MOST_CANDIDATES = 500
MOST_BYTES = 4 * 1024 * 1024
"""Of a body; a longer one is refused before it is read to its end."""
MOST_PROBLEMS = 20
"""Listed in one answer."""
LARGEST = 1e30
"""Of a number."""
VECTOR, NUMBER, TEXT, FLAG, NOTHING = KINDS = ("<vector>", "<number>", "<text>", "<flag>", "<null>")
"""What a value of `Given` is read as; no part of a problem's place."""


def _exact(value: object) -> object:
    """A number as it is. Raises ValueError for a whole number that float64 would round: two could become one."""
    whole = isinstance(value, int) and EXACT_INTEGER < abs(value) <= LARGEST
    if whole and int(float(value)) != value:  # type: ignore[arg-type]
        raise ValueError(f"has more digits than float64 keeps ({value}): subtract what all scores have in common")
    return value


def _kind(value: object) -> str:
    """Which of `Given` a value is to be."""
    if isinstance(value, list):
        return VECTOR
    if isinstance(value, bool):
        return FLAG
    return TEXT if isinstance(value, str) else NOTHING if value is None else NUMBER


Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Score = Annotated[Number, BeforeValidator(_exact)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Vector = list[Number]
Given = Annotated[
    Annotated[Vector, Tag(VECTOR)]
    | Annotated[Number, Tag(NUMBER)]
    | Annotated[str, Tag(TEXT)]
    | Annotated[bool, Tag(FLAG)]
    | Annotated[None, Tag(NOTHING)],
    Discriminator(_kind),
]
"""What stands in a column of one item."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Candidate(_Strict):
    """One candidate: an item of the dataset, or a new one with its features."""

    item: Name
    v1_score: Score
    features: dict[Name, Given] | None = None
    """Raw features by the columns of `items.parquet`: vectors (`visual`) and scalars (`metadata.price`). Needed for an
    item that the dataset does not hold; taken instead of the dataset's where given."""
    pair: Vector | None = None
    """Features of query and item; needed where the dataset has them and does not hold this pair."""


class Query(_Strict):
    """The query: one of the dataset, or its features."""

    id: Name | None = None
    features: Vector | None = None


class RankRequest(_Strict):
    """A list to be ranked."""

    request_id: Name | None = None
    unit: Name | None = None
    """Whom the experiment assigns: a user, a session."""
    query: Query = Query()
    candidates: Annotated[list[Candidate], Field(min_length=1, max_length=MOST_CANDIDATES)]

    def order(self) -> list[int]:
        """V1's order: best first, ties as they came."""
        scores = [candidate.v1_score for candidate in self.candidates]
        return sorted(range(len(scores)), key=scores.__getitem__, reverse=True)


@dataclass(frozen=True)
class Problem:
    """What is wrong with a request, and where."""

    where: str
    what: str


class BadRequestError(ValueError):
    """A request that cannot be answered; holds every problem found, up to `MOST_PROBLEMS`."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{p.where}: {p.what}" for p in problems[:3]))
        self.problems = tuple(problems[:MOST_PROBLEMS])


class Catalogue:
    """The dataset as requests see it: ids to rows, widths, and the gathering of features."""

    def __init__(self, data: RankingDataset) -> None:
        self.data = data
        self._item = {str(name): row for row, name in enumerate(data.item_ids)}
        self._query = {str(name): row for row, name in enumerate(data.query_ids)}
        self._columns = item_columns(data.schema, data.statistics)

    def parse(self, body: bytes | str) -> RankRequest:
        """A checked request, of which `batch` can be made. Raises BadRequestError with every problem.

        Features are looked at one by one and not encoded: V1's answer waits for this.
        """
        try:
            request = RankRequest.model_validate_json(body)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise BadRequestError(
                [Problem(".".join(str(p) for p in e["loc"] if p not in KINDS) or "body", e["msg"]) for e in found]
            ) from None
        problems = self._problems(request)
        if problems:
            raise BadRequestError(problems)
        return request

    def batch(self, requests: Sequence[RankRequest]) -> Batch:
        """Checked requests as one padded batch `[B, L]`; labels 0, rows -1 for what the dataset does not hold."""
        length, schema = max(len(r.candidates) for r in requests), self.data.schema
        shape = len(requests), length
        features = {m: np.zeros((*shape, width), np.float32) for m, width in schema.widths.items()}
        context = np.zeros((*shape, schema.context), np.float32)
        v1, valid, item = np.zeros(shape), np.zeros(shape, bool), np.full(shape, -1)
        for b, request in enumerate(requests):
            valid[b, : len(request.candidates)] = True
            if schema.query:
                context[b, : len(request.candidates), : schema.query] = self._query_features(request.query)
            new = [j for j, candidate in enumerate(request.candidates) if candidate.features is not None]
            for m, given in self._given(request).items():
                features[m][b, new] = given
            for j, candidate in enumerate(request.candidates):
                v1[b, j] = candidate.v1_score
                item[b, j] = self._item.get(candidate.item, -1)
                assert candidate.features is not None or item[b, j] >= 0, "a request is checked before"
                if candidate.features is None:
                    for m, known in self.data.item_features.items():
                        features[m][b, j] = known[item[b, j]]
                if schema.pair:
                    pair = candidate.pair if candidate.pair is not None else self._judged(request.query, candidate.item)
                    context[b, j, schema.query :] = pair
        return Batch(
            features={m: torch.from_numpy(x) for m, x in features.items()},
            context=torch.from_numpy(context),
            labels=torch.zeros(shape, dtype=torch.float64),
            v1=torch.from_numpy(v1),
            v1_input=self._v1_input(v1, valid),
            valid=torch.from_numpy(valid),
            query=torch.tensor([self._query.get(r.query.id or "", -1) for r in requests]),
            item=torch.from_numpy(item),
        )

    def _v1_input(self, v1: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_]) -> Tensor:
        """`[B, L]`: V1's scores as the ranker read them in training."""
        seen = np.zeros_like(v1)
        offset = np.concatenate([[0], np.cumsum(valid.sum(axis=1))])
        seen[valid] = v1_input(v1[valid], offset, self.data.statistics.v1_input)
        return torch.from_numpy(seen)

    def labels(self, request: RankRequest) -> list[float] | None:
        """Judged relevance of each candidate, 0 where unjudged; None for a query that the dataset does not hold."""
        row = self._query.get(request.query.id or "", -1)
        if row < 0:
            return None
        span = slice(self.data.offset[row], self.data.offset[row + 1])
        known = dict(zip(self.data.judged_item[span].tolist(), self.data.labels[span].tolist(), strict=True))
        return [known.get(self._item.get(c.item, -1), 0.0) for c in request.candidates]

    def _problems(self, request: RankRequest) -> list[Problem]:
        schema, found = self.data.schema, []
        query = request.query
        if schema.query and query.features is None and query.id is None:
            found.append(Problem("query", "needs an id of the dataset, or features"))
        elif schema.query and query.features is None and query.id not in self._query:
            found.append(Problem("query.id", f"unknown query {query.id!r}; send query.features for a new one"))
        if query.features is not None and len(query.features) != schema.query:
            found.append(Problem("query.features", _wrong_width(schema.query, len(query.features))))
        counts = Counter(c.item for c in request.candidates)
        for i, candidate in enumerate(request.candidates):
            where = f"candidates.{i}"
            if counts[candidate.item] > 1:
                found.append(Problem(f"{where}.item", f"{candidate.item!r} stands {counts[candidate.item]} times"))
            if candidate.features is None and candidate.item not in self._item:
                found.append(Problem(f"{where}.item", f"unknown item {candidate.item!r}; send its features"))
            if candidate.features is not None:
                found += self._problems_of_features(candidate.features, f"{where}.features")
            if candidate.pair is not None and len(candidate.pair) != schema.pair:
                found.append(Problem(f"{where}.pair", _wrong_width(schema.pair, len(candidate.pair))))
            if candidate.pair is None and schema.pair and self._judged(query, candidate.item) is None:
                found.append(
                    Problem(f"{where}.pair", f"this pair is not in the dataset: send its {schema.pair} numbers")
                )
        return found

    def _problems_of_features(self, given: Mapping[str, Value], where: str) -> list[Problem]:
        """Of the features of one item: a column that is missing, unknown or of another kind or width."""
        found, known = [], [name for columns in self._columns.values() for name in columns.names]
        for name in given:
            if name not in known:
                no_vector = name in self._columns
                said = self._columns[name].refusal if no_vector else f"no column of the dataset: {', '.join(known)}"
                found.append(Problem(f"{where}.{name}", said))
        for columns in self._columns.values():
            for name in columns.names:
                wrong = columns.wrong_with(name, given[name]) if name in given else "Field required"
                found += [Problem(f"{where}.{name}", wrong)] if wrong is not None else []
        return found

    def _given(self, request: RankRequest) -> dict[str, npt.NDArray[np.float32]]:
        """Modality -> `[n, D]` of the n candidates that bring features."""
        rows = [candidate.features for candidate in request.candidates if candidate.features is not None]
        return {m: columns.of_rows(rows, "request") for m, columns in self._columns.items()} if rows else {}

    def _query_features(self, query: Query) -> Sequence[float] | np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        if query.features is not None:
            return query.features
        assert query.id is not None
        assert self.data.query_features is not None
        features: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = self.data.query_features[self._query[query.id]]
        return features

    def _judged(self, query: Query, item: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None:
        row, wanted = self._query.get(query.id or "", -1), self._item.get(item, -1)
        if row < 0 or wanted < 0:
            return None
        assert self.data.pair_features is not None
        first = int(self.data.offset[row])
        places = np.flatnonzero(self.data.judged_item[first : int(self.data.offset[row + 1])] == wanted)
        return self.data.pair_features[first + int(places[0])] if len(places) else None


def _wrong_width(width: int, got: int) -> str:
    return f"expected {width} numbers, got {got}" if width else "the dataset has none: leave it out"
