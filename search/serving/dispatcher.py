"""V2's way beside the answering path: a bounded queue, small batches, a time limit, a breaker. Nothing here is awaited
by an answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from search.serving.journal import Journal, Ticket

Score = Callable[[list[str]], Awaitable[list[list[float] | None]]]
"""Requests as JSON to V2's scores; None for a request whose scores are not finite."""

GATHER_SECONDS = 0.02
"""How long the first request of a batch waits for company."""
MOST_AT_ONCE = 16
"""Requests of a batch."""
CALLS_AT_ONCE = 2
"""Batches under way."""
SLOW_PAUSE = (0.5, 30.0)
"""Seconds that a V2 is left alone that took too long: the first time, and at the most. The pause doubles between."""
FAILED_PAUSE = (5.0, 300.0)
"""The same for one that failed: a process that starts again costs V1 seconds of the processors they share."""


@dataclass
class Dispatcher:
    """Hands requests to V2 and writes what became of them. One a replica, in its event loop."""

    score: Score | None
    """None: there is no V2."""
    journal: Journal
    limit: int = 256
    """Requests waiting for V2 at the most; what comes beyond is shed."""
    timeout: float = 1.0
    """Seconds that a batch may take."""
    counts: Counter[str] = field(default_factory=Counter)
    _waiting: deque[tuple[Ticket | None, str]] = field(default_factory=deque)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _pause: float = 0.0
    _closed_at: float = 0.0
    _closed_until: float = 0.0

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    def offer(self, ticket: Ticket | None, request: str, *, busy: bool = False) -> None:
        """Take a request for V2, or say at once why not; never waits. `busy`: V1 needs the processor."""
        if self.score is None:
            self._end(ticket, "absent")
        elif busy or len(self._waiting) >= self.limit:
            self._end(ticket, "shed")
        else:
            self._waiting.append((ticket, request))
            self._arrived.set()

    async def run(self) -> None:
        """Serve the queue for ever."""
        slots = asyncio.Semaphore(CALLS_AT_ONCE)
        under_way: set[asyncio.Task[None]] = set()
        while True:
            await self._arrived.wait()
            await slots.acquire()
            await asyncio.sleep(GATHER_SECONDS)
            batch = [self._waiting.popleft() for _ in range(min(MOST_AT_ONCE, len(self._waiting)))]
            if not self._waiting:
                self._arrived.clear()
            task = asyncio.create_task(self._try(batch))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            task.add_done_callback(lambda _: slots.release())

    async def _try(self, batch: Sequence[tuple[Ticket | None, str]]) -> None:
        if time.monotonic() < self._closed_until:
            for ticket, _ in batch:
                self._end(ticket, "unavailable")
            return
        assert self.score is not None
        began = time.monotonic()
        scores: list[list[float] | None] = [None] * len(batch)
        try:
            scores = await asyncio.wait_for(self.score([request for _, request in batch]), self.timeout)
            status, self._pause = "failed", 0.0  # failed: of those alone that have no scores
        except TimeoutError:
            status = "timeout"
            self._rest(began, *SLOW_PAUSE)
        except Exception:  # whatever V2 does, V1 goes on; the status says it
            status = "failed"
            self._rest(began, *FAILED_PAUSE)
        spent = (time.monotonic() - began) * 1000
        for (ticket, _), found in zip(batch, scores, strict=True):
            self._end(ticket, "scored" if found is not None else status, found, spent)

    def _rest(self, began: float, first: float, longest: float) -> None:
        """Leave V2 alone for a while, longer each time; a batch begun before the last time tells nothing new."""
        if began >= self._closed_at:
            self._pause = min(longest, max(first, 2 * self._pause))
            self._closed_at = time.monotonic()
            self._closed_until = self._closed_at + self._pause

    def _end(self, ticket: Ticket | None, status: str, scores: list[float] | None = None, ms: float = 0.0) -> None:
        self.counts[status] += 1
        self.journal.shadow(ticket, status, scores, ms)
