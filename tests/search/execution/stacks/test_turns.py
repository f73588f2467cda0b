"""After a host's death its trials go on one after the other, until it is known which of them brings it down."""

import asyncio

import pytest

from search.execution.stacks import turns as turns_module
from search.execution.stacks.turns import Turns

NAMES = ("a", "b", "c", "d")
TRIES = 3


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch):
    monkeypatch.setattr(turns_module, "POLL_SECONDS", 0.001)


class Hosted:
    """Trials of ten epochs in a host that dies as `kills` says, of those who step at once: who failed, who finished."""

    def __init__(self, kills, names=NAMES):
        self.turns, self.kills = Turns(), kills
        self.epochs, self.spent = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
        self.deaths = 0
        self.together = []

    async def run(self, rounds=300):
        waited = 0
        for _ in range(rounds):
            living = [name for name in self.epochs if self.epochs[name] < 10 and self.spent[name] < TRIES]
            if not living:
                return
            asked = [(n, await self.turns.turn("host", str(self.deaths), n, self.epochs[n])) for n in living]
            stepping = [name for name, may in asked if may]
            waited = 0 if stepping else waited + 1
            assert waited < 3, "nobody gets on"
            self.together.append(len(stepping))
            if stepping and self.kills(stepping, self.epochs):
                for name in stepping:
                    verdict = await self.turns.died("host", str(self.deaths), name)
                    self.spent[name] += verdict != "innocent"
                self.deaths += 1
            else:
                for name in stepping:
                    self.epochs[name] += 1
            for name in living:
                if self.epochs[name] == 10 or self.spent[name] == TRIES:
                    await self.turns.ended(name)

    @property
    def finished(self):
        return {name for name, epochs in self.epochs.items() if epochs == 10}


def hosted(kills, **more):
    async def of():
        found = Hosted(kills, **more)
        await found.run()
        return found

    return asyncio.run(of())


@pytest.mark.parametrize("at", [0, 4, 9])
@pytest.mark.parametrize("guilty", NAMES)
def test_one_that_kills_every_host_fails_alone(guilty, at):
    found = hosted(lambda stepping, epochs: guilty in stepping and epochs[guilty] == at)
    assert found.finished == set(NAMES) - {guilty}
    assert found.deaths == TRIES
    assert max(found.spent[name] for name in found.finished) == 1


def test_two_that_kill_hosts_fail_alone():
    at = {"b": 2, "c": 7}
    found = hosted(lambda stepping, epochs: any(n in stepping and epochs[n] == e for n, e in at.items()))
    assert found.finished == {"a", "d"}


def test_after_one_death_all_go_on_and_soon_together():
    died = []
    found = hosted(lambda stepping, epochs: epochs["a"] == 2 and not died and not died.append(1))
    assert found.finished == set(NAMES)
    assert found.deaths == 1
    assert found.together[:4] == [4, 4, 4, 1]
    assert 4 in found.together[4:]


@pytest.mark.parametrize("room", [1, 2, 3])
def test_those_who_fall_only_together_all_get_to_their_ends(room):
    found = hosted(lambda stepping, epochs: len(stepping) > room)
    assert found.finished == set(NAMES)
    assert max(found.spent.values()) < TRIES


def test_a_trial_alone_in_its_host_spends_its_tries():
    found = hosted(lambda stepping, epochs: epochs["a"] == 3, names=("a",))
    assert found.finished == set()
    assert found.deaths == TRIES


def test_who_is_new_waits_until_it_is_known():
    async def of():
        turns = Turns()
        for name in ("a", "b"):
            assert await turns.turn("host", "1", name, 0)
        assert await turns.died("host", "1", "a") == "unknown"
        assert not await turns.turn("host", "1", "new", 0)
        assert await turns.turn("other host", "1", "elsewhere", 0)
        assert await turns.turn("host", "2", "a", 0)
        assert not await turns.turn("host", "2", "b", 0)
        await turns.ended("a")
        assert await turns.turn("host", "2", "b", 0)
        assert not await turns.turn("host", "1", "new", 0)
        assert await turns.turn("host", "2", "b", 1)
        assert await turns.turn("host", "2", "b", 2)
        assert await turns.turn("host", "1", "new", 0)

    asyncio.run(of())


def test_one_death_is_told_by_each_trial_and_counts_once():
    async def of():
        turns = Turns()
        for name in ("a", "b", "c"):
            await turns.turn("host", "1", name, 0)
        assert [await turns.died("host", "1", name) for name in ("a", "b")] == ["unknown"] * 2
        assert await turns.turn("host", "2", "a", 0)  # on trial before c has told of the first death
        assert await turns.died("host", "1", "c") == "unknown"
        assert await turns.died("host", "2", "a") == "guilty"
        assert await turns.turn("host", "2", "b", 0)

    asyncio.run(of())


def test_a_machine_that_goes_is_nobodys_fault():
    async def of():
        turns = Turns()
        for name in ("a", "b"):
            await turns.turn("host", "1", name, 0)
        for name in ("a", "b"):
            assert await turns.died("host", "1", name, with_machine=True) == "unknown"
        assert [await turns.turn("host", "2", name, 0) for name in ("a", "b")] == [True, True]

    asyncio.run(of())


def test_one_that_had_no_step_in_flight_when_its_host_died_answers_for_the_next_death():
    async def of():
        turns = Turns()
        for name in ("idle", "a"):
            assert await turns.turn("host", "1", name, 0)
        assert await turns.died("host", "1", "a") == "unknown"
        assert await turns.turn("host", "2", "idle", 1)  # it never heard of the death
        assert await turns.died("host", "2", "idle") == "guilty"
        assert await turns.turn("host", "3", "a", 0)

    asyncio.run(of())


def test_a_death_that_is_told_late_is_not_one_more():
    async def of():
        turns = Turns()
        for name in ("a", "b", "c"):
            assert await turns.turn("host", "1", name, 0)
        assert await turns.died("host", "1", "a") == "unknown"
        assert await turns.turn("host", "1", "b", 0)  # on trial, but its step goes to a process that is dead
        assert await turns.died("host", "1", "b") == "unknown"
        assert await turns.turn("host", "2", "b", 0)
        assert not await turns.turn("host", "2", "a", 0)
        assert await turns.died("host", "2", "b") == "guilty"

    asyncio.run(of())
