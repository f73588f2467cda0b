"""From a body to an answer: what a replica does of a request, with no web server and no Ray in it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from search.serving.dispatcher import Dispatcher
from search.serving.journal import Journal
from search.serving.request import BadRequestError, Catalogue, Problem


class Reply(NamedTuple):
    """What goes back."""

    code: int
    """HTTP status."""
    content: dict[str, Any]


@dataclass
class Answering:
    """Checks a request, journals V1's order, hands the request to V2's queue, and replies. Waits for nothing."""

    catalogue: Catalogue
    journal: Journal
    shadow: Dispatcher
    answered: int = 0
    refused: int = 0

    def answer(self, body: bytes, *, busy: bool = False) -> Reply:
        """200 with V1's order, or 422 with every problem and its place. `busy`: leave V2 out."""
        began = time.perf_counter()
        try:
            request = self.catalogue.parse(body)
        except BadRequestError as error:
            return self.refuse(422, "the request cannot be ranked", error.problems)
        order = request.order()
        name = request.request_id or uuid.uuid4().hex
        text = request.model_dump_json(exclude_none=True)
        spent = (time.perf_counter() - began) * 1000
        ticket = self.journal.answer(time.time(), name, order, spent, text)
        self.shadow.offer(ticket, text, busy=busy)
        self.answered += 1
        items = [request.candidates[i].item for i in order]
        return Reply(200, {"request_id": name, "ranker": "v1", "order": items})

    def refuse(self, code: int, error: str, problems: Sequence[Problem]) -> Reply:
        """What is wrong, and where."""
        self.refused += 1
        return Reply(code, {"error": error, "problems": [{"where": p.where, "what": p.what} for p in problems]})
