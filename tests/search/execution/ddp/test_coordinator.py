"""The coordinator's rules, without any process: who gets which group, and what counts as lost."""

import asyncio

import pytest

from search.execution.ddp import coordinator as coordinator
from search.execution.ddp.coordinator import Coordinator


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(coordinator, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(coordinator, "GRACE_SECONDS", 0.05)


KNOWN = {"incarnation", "preemptions"}
"""What every outcome says."""


def new_board(groups, workers, deaths, alive=("here", "there")):
    return Coordinator(groups, workers, deaths, lambda machines: machines - set(alive))


async def up(board, incarnation, group=0, nodes=("here", "there")):
    return [
        await board.register(group, incarnation, rank, 100 + rank, f"handle {rank}", nodes[rank]) for rank in (0, 1)
    ]


async def done(board, number, *outcomes, group=0, incarnation="one"):
    for rank, outcome in enumerate(outcomes):
        result = {"rank": rank} if outcome is None else {"outcome": outcome, "reason": "why"}
        await board.deliver(group, incarnation, rank, number, result)


def run(coroutine):
    return asyncio.run(coroutine)


def test_a_trial_keeps_its_group_until_it_ends():
    async def story():
        board = new_board(2, 2, 2)
        none = await board.lease("a")
        await up(board, "one", group=0)
        await up(board, "one", group=1)
        first = [await board.lease("a"), await board.lease("b"), await board.lease("a"), await board.lease("c")]
        await board.release("b")
        return [none, *first, await board.lease("c")]

    assert run(story()) == [None, 0, 1, 0, None, 1]


def test_a_command_reaches_every_rank_and_is_done_when_all_have_answered():
    async def story():
        board = new_board(1, 2, 2)
        after = await up(board, "one")
        number = await board.give(0, {"key": "k"})
        taken = [await board.command(0, "one", a) for a in after]
        await done(board, number, None)
        waiting = await board.outcome(0, number)
        await board.deliver(0, "one", 1, number, {"rank": 1})
        return taken, waiting, await board.outcome(0, number), await board.command(0, "one", number)

    taken, waiting, found, none = run(story())
    assert taken == [(1, {"key": "k"})] * 2
    assert waiting["seconds"] >= 0
    assert "results" not in waiting
    assert (found["results"], found["poisoned"]) == ({0: {"rank": 0}, 1: {"rank": 1}}, False)
    assert none == (1, None)


@pytest.mark.parametrize(
    ("outcomes", "poisoned"),
    [(("failed", "failed"), False), (("failed",), True), (("failed", None), True), (("finished", "finished"), False)],
)
def test_a_failure_that_not_all_share_poisons_the_group(outcomes, poisoned):
    async def story():
        board = new_board(1, 2, 2)
        await up(board, "one")
        number = await board.give(0, {})
        await done(board, number, *outcomes)
        await asyncio.sleep(0.1)
        return await board.outcome(0, number)

    assert run(story())["poisoned"] == poisoned


def test_workers_that_come_back_begin_the_command_again_and_no_more_often_than_allowed():
    async def story():
        board, seen = new_board(1, 2, 1), []
        await up(board, "one")
        number = await board.give(0, {})
        for incarnation in ("two", "three"):
            await board.command(0, "one" if incarnation == "two" else "two", 0)
            seen.append((await up(board, incarnation), set(await board.outcome(0, number)) - KNOWN))
        lost = await board.outcome(0, number)
        await board.release("a")
        await board.lease("b")
        return seen, lost, set(await board.outcome(0, await board.give(0, {}))) - KNOWN

    seen, lost, fresh = run(story())
    assert seen == [([0, 0], {"seconds"}), ([1, 1], {"lost"})]
    assert len(lost["lost"]) == 2
    assert fresh == {"seconds"}


def test_condemned_workers_get_nothing_more_and_count_once():
    async def story():
        board = new_board(1, 2, 2)
        await up(board, "one")
        number = await board.give(0, {})
        await board.command(0, "one", 0)
        late = await board.condemned(0, "an earlier one", "hung")
        handles = late + await board.condemned(0, "one", "hung")
        old = await board.command(0, "one", 0)
        await done(board, number, None, None)
        waiting = await board.outcome(0, number)
        after = await up(board, "two")
        return handles, old, waiting, after, (await board.command(0, "two", after[0]))[0]

    handles, old, waiting, after, number = run(story())
    assert handles == ["handle 0", "handle 1"]
    assert old == (0, None)
    assert waiting["seconds"] is None
    assert (after, number) == ([0, 0], 1)


@pytest.mark.parametrize("how", ["condemned by its trial", "replaced by Ray Train"])
def test_workers_that_went_with_their_machine_do_not_count_as_deaths(how):
    async def story():
        alive = ["here", "there"]
        board = new_board(1, 2, 0, alive)
        await up(board, "one")
        number = await board.give(0, {})
        await board.command(0, "one", 0)
        alive.remove("there")
        if how == "condemned by its trial":
            await board.condemned(0, "one", "its node has died")
        await up(board, "two", nodes=("here", "here"))
        waiting = await board.outcome(0, number)
        late = await board.condemned(0, "one", "its node has died")  # the trial was told later than Train was
        assert await board.workers(0, "one") is None
        assert await board.workers(0, "two") == {0: "handle 0", 1: "handle 1"}
        await board.command(0, "two", 0)
        await done(board, number, None, None, incarnation="two")
        return waiting, late, await board.outcome(0, number)

    waiting, late, found = run(story())
    assert "lost" not in waiting
    assert late == []
    assert found["preemptions"] == 1
    assert set(found["results"]) == {0, 1}


def test_a_trial_whose_workers_cannot_come_back_moves_to_an_idle_group_with_what_it_has_lost():
    async def story():
        alive = ["here", "there"]
        board = new_board(1, 2, 2, alive)
        await up(board, "one", nodes=("here", "there"))
        await board.lease("a")
        await board.give(0, {})
        alive.remove("there")
        await board.condemned(0, "one", "its node has died")
        nowhere = await board.move(0)
        await board.grow(2)
        await up(board, "two", group=1, nodes=("here", "here"))
        moved = await board.move(0)
        found = await board.outcome(1, await board.give(1, {}))
        return nowhere, moved, found["preemptions"], await board.lease("a"), await board.training()

    assert run(story()) == (None, 1, 1, 1, 1)
