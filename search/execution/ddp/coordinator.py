"""Where trials and worker groups meet: trials leave jobs, groups take them, step them and leave results.

One Ray actor a run, without resources of its own. It waits on events only, so a call costs what a message costs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from search.execution.nodes import machines_gone

GRACE_SECONDS = 5.0
"""How long the other ranks may take to report after one has failed; then they hang in a sum that it has left."""
POLL_SECONDS = 1.0
"""How long a call waits for news before it comes back without."""

Command = dict[str, Any]
Result = dict[str, Any]


@dataclass
class Group:
    """What is known of one worker group."""

    workers: int
    incarnation: str = ""
    """Of the present workers: Train starts all of them anew when one has died."""
    handles: dict[int, Any] = field(default_factory=dict)
    pids: dict[int, int] = field(default_factory=dict)
    nodes: dict[int, str] = field(default_factory=dict)
    """Ray's ids of the machines that they are on."""
    trial: str | None = None
    """Whose it is; None: idle."""
    number: int = 0
    """Of the command given last."""
    command: Command | None = None
    taken: float | None = None
    """When the present workers began the command (`time.monotonic()`)."""
    results: dict[int, Result] = field(default_factory=dict)
    failed: float | None = None
    """When the first rank reported a failure."""
    deaths: list[str] = field(default_factory=list)
    """Of workers that were at the present job."""
    preemptions: int = 0
    """How often they went with their machine, which is no fault of the job's."""
    given: float = 0.0
    """When the last command was left, or when the present workers came up to find it."""

    def lose(self, why: str, *, with_machine: bool) -> None:
        """The present job has lost its workers: with a machine of theirs, or else because of `why`."""
        if with_machine:
            self.preemptions += 1
        else:
            self.deaths.append(why)
        self.results, self.failed = {}, None

    @property
    def up(self) -> bool:
        """Whether all of its workers are there."""
        return len(self.handles) == self.workers

    @property
    def free(self) -> bool:
        """Whether a trial may have it."""
        return self.up and self.trial is None


class Coordinator:
    """See the module. `deaths` is how often a job whose workers died is tried again; `gone` tells lost machines."""

    def __init__(
        self, groups: int, workers: int, deaths: int, gone: Callable[[set[str]], set[str]] = machines_gone
    ) -> None:
        self._groups = [Group(workers=workers) for _ in range(groups)]
        self._workers = workers
        self._deaths = deaths
        self._gone = gone
        self._news = asyncio.Condition()

    async def grow(self, groups: int) -> None:
        """There are so many groups now."""
        self._groups += [Group(workers=self._workers) for _ in range(groups - len(self._groups))]

    async def training(self) -> int:
        """How many trials have a group whose workers are up."""
        return sum(group.trial is not None and group.up for group in self._groups)

    async def standing(self) -> list[int]:
        """The groups whose workers are up."""
        return [index for index, group in enumerate(self._groups) if group.up]

    async def lease(self, trial: str) -> int | None:
        """The group of `trial`, or an idle one whose workers are up; None where there was none for a while."""
        await self._wait(lambda: any(g.trial == trial or g.free for g in self._groups))
        for index, group in enumerate(self._groups):
            if group.trial == trial:
                return index
        for index, group in enumerate(self._groups):
            if group.free:
                group.trial, group.deaths, group.preemptions = trial, [], 0
                return index
        return None

    async def move(self, index: int) -> int | None:
        """Another, idle group for the trial of one whose workers are gone; None where there is none.

        A cluster that has shrunk may have no place for new ones.
        """
        old = self._groups[index]
        for other, group in enumerate(self._groups):
            if group.free and not old.up:
                group.trial, group.deaths, group.preemptions = old.trial, old.deaths, old.preemptions
                old.trial, old.command, old.deaths = None, None, []
                return other
        return None

    async def release(self, trial: str) -> None:
        """`trial` has ended: its group is idle, once what it was still at has been done."""
        for group in self._groups:
            if group.trial == trial:
                group.trial = None
        await self._tell()

    async def give(self, index: int, command: Command) -> int:
        """Leave a command for a group; its number."""
        group = self._groups[index]
        group.number += 1
        group.command, group.taken, group.results, group.failed = command, None, {}, None
        group.given = time.monotonic()
        await self._tell()
        return group.number

    async def outcome(self, index: int, number: int) -> Result:
        """What the group made of a command.

        `results` by rank where it is done; `lost`, why, where its workers were lost too often; else `seconds` for which
        the workers have had it (None: there are none now).
        `poisoned`: its workers do not stand at the same place any more and must be replaced. `incarnation` names those
        workers, and `preemptions` counts the machines that the trial has lost.
        """
        group = self._groups[index]
        await self._wait(lambda: self._done(group) or group.number != number)
        known = {"incarnation": group.incarnation, "preemptions": group.preemptions}
        if len(group.deaths) > self._deaths:
            return known | {"lost": list(group.deaths)}
        if not self._done(group):
            return known | {"seconds": time.monotonic() - (group.taken or group.given) if group.up else None}
        bad = [rank for rank, result in group.results.items() if result.get("outcome") == "failed"]
        poisoned = len(group.results) < group.workers or 0 < len(bad) < group.workers
        return known | {"results": dict(group.results), "poisoned": poisoned}

    async def condemned(self, index: int, incarnation: str, why: str) -> list[Any]:
        """These workers of the group are about to be killed: their handles, none where others are there already.

        With a reason, the present job has lost them.
        """
        group = self._groups[index]
        with_machine = await self._machine_gone(group)
        if group.incarnation != incarnation:
            return []
        if why:
            group.lose(why, with_machine=with_machine)
        else:
            group.command = None  # whoever comes up need not do it again
        handles = list(group.handles.values())
        group.incarnation, group.taken, group.handles, group.pids, group.nodes = "", None, {}, {}, {}
        return handles

    async def _machine_gone(self, group: Group) -> bool:
        """Whether a machine is gone on which the group's workers were."""
        return bool(await asyncio.to_thread(self._gone, set(group.nodes.values())))

    async def register(self, index: int, incarnation: str, rank: int, pid: int, handle: Any, node: str = "") -> int:
        """A worker is up on machine `node`; the number of the last command that it need not care about.

        The first worker of a new incarnation says that the one before is gone; what that was at begins again.
        """
        group = self._groups[index]
        with_machine = group.incarnation not in ("", incarnation) and await self._machine_gone(group)
        if group.incarnation != incarnation:
            lost = group.command is not None and len(group.results) < group.workers
            if lost and group.incarnation and group.taken is not None and len(group.deaths) <= self._deaths:
                group.lose("a worker's process died (killed, or out of memory)", with_machine=with_machine)
            group.incarnation, group.taken, group.given = incarnation, None, time.monotonic()
            group.handles, group.pids, group.nodes = {}, {}, {}
            group.results, group.failed = (group.results, group.failed) if not lost else ({}, None)
        group.handles[rank], group.pids[rank] = handle, pid
        if node:
            group.nodes[rank] = node
        await self._tell()
        outstanding = group.command is not None and not self._done(group) and len(group.deaths) <= self._deaths
        return group.number - 1 if outstanding else group.number

    async def command(self, index: int, incarnation: str, after: int) -> tuple[int, Command | None]:
        """The command after number `after`, or (after, None) where there was none for a while."""
        group = self._groups[index]
        await self._wait(lambda: group.number > after and group.incarnation == incarnation)
        if group.number == after or group.incarnation != incarnation:  # workers of the past wait for their end
            return after, None
        group.taken = group.taken or time.monotonic()
        return group.number, group.command

    async def deliver(self, index: int, incarnation: str, rank: int, number: int, result: Result) -> None:
        """A rank's result of a command; one of an earlier incarnation or command is of no interest."""
        group = self._groups[index]
        if (group.incarnation, group.number) == (incarnation, number):
            group.results[rank] = result
            if result.get("outcome") == "failed":
                group.failed = group.failed or time.monotonic()
            await self._tell()

    async def workers(self, index: int, incarnation: str) -> dict[int, Any] | None:
        """Handles of these workers by rank; None where they have been replaced."""
        group = self._groups[index]
        return dict(group.handles) if group.incarnation == incarnation else None

    async def pids(self) -> list[dict[int, int]]:
        """Process ids of each group's workers by rank, for whoever looks on."""
        return [dict(group.pids) for group in self._groups]

    def _done(self, group: Group) -> bool:
        if len(group.deaths) > self._deaths:
            return True
        late = group.failed is not None and time.monotonic() - group.failed > GRACE_SECONDS
        return len(group.results) == group.workers or late

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _wait(self, until: Any) -> None:
        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(until), POLL_SECONDS)
            except TimeoutError:
                return
