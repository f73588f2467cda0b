"""Which trial brought a host down: after its death its trials go on one after the other, until that is known.

A host's trials share its process, so all of them are tried again when it dies. Were they to go on together, one that
kills every host would use up the tries of all. So each is then *on trial* by itself: beside it run only those that have
been cleared, that is, have come a little further than where they were when the host died. If the host dies again, it
is the fault of whoever was on trial, and nobody else's try counts; he is tried again last, alone in the host, to his
end: for it may be that some fall only together (want of memory, say).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

POLL_SECONDS = 1.0
"""How long a call waits for its turn before it comes back without."""
BEYOND = 2
"""Steps past the place where a trial was when its host died, after which it is cleared."""
Verdict = Literal["guilty", "unknown", "innocent"]


@dataclass
class _Member:
    """One trial of a host."""

    process: str
    """Of the host, in which it last asked for a turn."""
    stepping: bool = False
    """It has been given its turn, and has not come back."""
    epochs: int = 0
    """The most that it has reported."""
    steps_left: int = 0
    """Until it is cleared; 0: it is, or was never suspected."""
    to_its_end: bool = False
    """It is never cleared, and nobody goes on beside it: a host died while it was on trial, or twice while nobody
    was."""
    falls: int = 0
    """Deaths of its host when nobody was on trial."""


@dataclass
class _Host:
    """One host's trials."""

    members: dict[str, _Member] = field(default_factory=dict)
    on_trial: str | None = None
    suspects: list[str] = field(default_factory=list)
    """Who waits for that, in order."""
    blamed: dict[str, str | None] = field(default_factory=dict)
    """Of each process that has died, who was on trial: each of its trials tells of that death, some of them late."""


class Turns:
    """See the module. A Ray actor of its own, so that it outlives the hosts; called by their trials and the driver."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        self._news = asyncio.Condition()

    async def turn(self, host: str, process: str, trial: str, epochs: int) -> bool:
        """Whether a trial may take its next step now, which has come as far as `epochs`; False after a short wait."""
        found = self._hosts.setdefault(host, _Host())
        member = found.members.setdefault(trial, _Member(process, epochs=epochs))
        member.process, member.stepping = process, False
        self._heed(found, trial, member, epochs)
        if not self._may(found, trial):
            async with self._news:
                self._news.notify_all()
                try:
                    await asyncio.wait_for(self._news.wait_for(lambda: self._may(found, trial)), POLL_SECONDS)
                except TimeoutError:
                    return False
        member.stepping = True
        return True

    async def died(self, host: str, process: str, trial: str, *, with_machine: bool = False) -> Verdict:
        """A trial's host has died under it: whose fault that was, as far as this trial is concerned."""
        found = self._hosts.setdefault(host, _Host())
        member = found.members.get(trial)
        if member is None or member.process != process:
            return "unknown"
        member.stepping = False
        if process not in found.blamed:  # the first to tell of this death
            self._end_process(found, process, with_machine=with_machine)
            await self._tell()
        blamed = found.blamed[process]
        if blamed is None:
            return "unknown"
        return "guilty" if blamed == trial else "innocent"

    async def ended(self, trial: str) -> None:
        """A trial has ended, however it did."""
        for host in self._hosts.values():
            host.members.pop(trial, None)
            host.suspects = [other for other in host.suspects if other != trial]
            host.on_trial = None if host.on_trial == trial else host.on_trial
        await self._tell()

    def _end_process(self, host: _Host, process: str, *, with_machine: bool) -> None:
        tried, host.on_trial = host.on_trial, None
        blamed = host.blamed[process] = None if with_machine else tried
        if with_machine:
            host.suspects += [tried] if tried is not None else []
            return
        if blamed is not None:
            member = host.members[blamed]
            member.to_its_end, member.steps_left = True, BEYOND
            host.suspects.append(blamed)
            return
        for name, member in host.members.items():
            member.falls += 1
            member.to_its_end = member.to_its_end or member.falls > 1
            member.steps_left = BEYOND
            if name not in host.suspects:
                host.suspects.append(name)

    def _heed(self, host: _Host, trial: str, member: _Member, epochs: int) -> None:
        """Note how far a trial has come: who has come far enough is cleared."""
        if epochs <= member.epochs:
            return
        member.epochs = epochs
        if host.on_trial == trial and not member.to_its_end:
            member.steps_left -= 1
            if member.steps_left <= 0:
                host.on_trial = None

    def _may(self, host: _Host, trial: str) -> bool:
        if host.on_trial is None and host.suspects:
            lenient = [name for name in host.suspects if not host.members[name].to_its_end]
            busy = any(other.stepping for other in host.members.values())
            if trial not in (lenient or host.suspects) or (busy and not lenient):
                return False
            host.suspects.remove(trial)
            host.on_trial = trial
        if host.on_trial in (None, trial):
            return True
        if host.members[host.on_trial].to_its_end:
            return False
        member = host.members[trial]  # who is new waits with those who have not been on trial yet
        return member.falls > 0 and member.steps_left <= 0

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()
