"""Threads that each train one member meet at every epoch, and get what a training alone would get."""

import dataclasses
import threading
import time

import pytest
import torch

from fusion_models.config import Recipe
from fusion_models.data import open_dataset
from fusion_models.models.fusion import Fused
from fusion_models.models.variants import VARIANTS
from fusion_models.models.variants.concat_mlp import ConcatMLP
from fusion_models.training import DivergedError, start, train
from fusion_models.training.stack import Meeting, Stack, why_alone
from fusion_models.training.stack.groups import Groups

BASE = Recipe().updated(
    {
        "model.variant": "film",
        "model.width": 8,
        "model.heads": 4,
        "model.layers": 1,
        "model.dropout": 0.0,
        "train.epochs": 4,
        "train.patience": 4,
    }
)


SOURCE = "planted?queries=130&candidates=6"


@pytest.fixture(scope="module")
def data(_own_cache):
    return open_dataset(SOURCE)


@pytest.fixture
def sizes(monkeypatch):
    """How many members every epoch of a stack had."""
    noted, epoch = [], Stack.epoch

    def counted(self):
        noted.append(len(self.members))
        return epoch(self)

    monkeypatch.setattr(Stack, "epoch", counted)
    return noted


def in_threads(meeting, recipes, data, *, together=False):
    """`together`: whoever has had an epoch asks for the next once all others have; else a quick one is done by then."""
    found = [None] * len(recipes)

    def run(place):
        with meeting.lock:
            state = start(recipes[place], data, seed=place)
        totals = []
        try:
            for result in meeting.train(state, data):
                totals.append(result.parts["total"])
                if together and len(totals) == 1:
                    all_have_asked(meeting, len(recipes))
            found[place] = totals
        except Exception as error:
            found[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(recipes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def all_have_asked(meeting, count):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with meeting.lock:
            if sum(len(table.expected) for table in meeting._tables.values()) == count:
                return
        time.sleep(0.001)


def alone(recipe, data, seed):
    return [result.parts["total"] for result in train(start(recipe, data, seed=seed), data)]


def test_members_train_together_and_as_they_would_alone(data, sizes):
    recipes = [BASE.updated({"train.learning_rate": rate, "train.epochs": n}) for rate, n in ((1e-3, 4), (2e-3, 3))]
    found = in_threads(Meeting(wait_seconds=30), [*recipes, BASE], data, together=True)
    for place, recipe in enumerate([*recipes, BASE]):
        assert found[place] == pytest.approx(alone(recipe, data, place), abs=1e-4)
    assert max(sizes) == 3


def test_one_that_diverges_tells_its_own_thread_alone(data):
    wild = BASE.updated({"train.learning_rate": 1e30, "train.warmup": 0.0, "train.gradient_clip": 1e30})
    found = in_threads(Meeting(), [BASE, wild], data)
    assert isinstance(found[1], DivergedError)
    assert found[0] == pytest.approx(alone(BASE, data, 0), abs=1e-4)


def test_structures_do_not_wait_for_each_other(data):
    recipes = [BASE, BASE.updated({"model.variant": "concat_mlp"})]
    found = in_threads(Meeting(wait_seconds=30), recipes, data)
    for place, recipe in enumerate(recipes):
        assert found[place] == pytest.approx(alone(recipe, data, place), abs=1e-4)


def test_one_that_asks_no_more_holds_up_nobody_for_long_and_may_come_back(data):
    meeting = Meeting(wait_seconds=0.2)
    slow = start(BASE, data, seed=0)
    epochs = meeting.train(slow, data)
    mine = [next(epochs).parts["total"]]
    (other,) = in_threads(meeting, [BASE.updated({"train.learning_rate": 1e-3})], data)
    assert other == pytest.approx(alone(BASE.updated({"train.learning_rate": 1e-3}), data, 0), abs=1e-4)
    mine += [result.parts["total"] for result in epochs]
    assert mine == pytest.approx(alone(BASE, data, 0), abs=1e-4)


def test_whoever_waits_while_another_computes_waits_for_those_who_could_not_ask(data, sizes):
    meeting, first, together = Meeting(wait_seconds=30), threading.Event(), threading.Barrier(2, timeout=30)

    def begin(recipe):
        with meeting.lock:
            return meeting.train(start(recipe, data, seed=0), data)

    def quick():
        epochs = begin(BASE)
        next(epochs)
        first.set()
        all_have_asked(meeting, 2)
        next(epochs)
        together.wait()
        list(epochs)

    def slow():
        epochs = begin(BASE.updated({"train.learning_rate": 1e-3}))
        first.wait(30)
        next(epochs)
        meeting._wait_seconds = 5.0
        together.wait()
        (table,) = meeting._tables.values()
        while not table.asked:
            time.sleep(0.001)
        with meeting.held():
            time.sleep(7.0)  # a ranker is measured, say
        list(epochs)

    threads = [threading.Thread(target=each) for each in (quick, slow)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sizes == [1, 2, 2, 2, 1]


def test_two_objects_of_one_dataset_meet_and_views_of_it_do_not():
    meeting, given = Meeting(wait_seconds=0.01), open_dataset(SOURCE)
    measured = given.measured_by(dataclasses.replace(given.metric, cutoff=5))
    kinds = [given, open_dataset(SOURCE), given.halved(), measured]
    epochs = [meeting.train(start(BASE, data, seed=0), data) for data in kinds]
    tables = []
    for each in epochs:
        next(each)
        tables.append(len(meeting._tables))
    assert tables == [1, 1, 2, 3]


def test_one_that_is_dropped_is_not_waited_for(data):
    meeting = Meeting(wait_seconds=60)
    epochs = meeting.train(start(BASE, data, seed=0), data)
    next(epochs)
    epochs.close()
    began = time.monotonic()
    in_threads(meeting, [BASE], data)
    assert time.monotonic() - began < 50


def test_the_clock_goes_while_somebody_computes_and_stands_while_all_wait(data):
    said, asleep = [], []
    meeting = Meeting(wait_seconds=30, watch=said.append)
    wait = meeting.lock.wait
    meeting.lock.wait = lambda seconds: (asleep.append(said[-1]), wait(seconds))[1]
    with meeting.held():
        in_turn = meeting.train(start(BASE.updated({"train.slice_queries": 8}), data, seed=0), data)
        next(in_turn)
        assert said[-1] is True  # it still holds the lock
    assert said[-1] is False
    in_threads(meeting, [BASE, BASE], data, together=True)
    assert said[-1] is False
    assert asleep
    assert not any(asleep)


def test_what_an_epoch_raises_reaches_every_member(data, monkeypatch):
    def broken(self):
        raise RuntimeError("no idea")

    monkeypatch.setattr(Stack, "epoch", broken)
    found = in_threads(Meeting(wait_seconds=30), [BASE, BASE], data)
    assert [type(error) for error in found] == [RuntimeError] * 2


def test_what_escapes_from_an_epoch_reaches_every_member(data, monkeypatch):
    """Were it to end the thread alone that ran the epoch, the others would wait for ever."""
    error, epoch = RuntimeError("no idea"), Groups.epoch

    def broken(self, members):
        if len(members) == 2:
            raise error
        return epoch(self, members)

    monkeypatch.setattr(Groups, "epoch", broken)
    assert in_threads(Meeting(wait_seconds=30), [BASE, BASE], data, together=True) == [error] * 2


class HostReader(ConcatMLP):
    """A user's variant that looks at a number on the host: vmap refuses it."""

    def forward(self, tokens, query):
        out = super().forward(tokens, query)
        return Fused(out.vector * (1.0 if float(tokens.sum()) < 1e9 else 0.0))


class CountingNorm(ConcatMLP):
    """A user's variant with a running mean, which training changes in place."""

    def __init__(self, config, owner):
        super().__init__(config, owner)
        self.running = torch.nn.BatchNorm1d(config.width)

    def forward(self, tokens, query):
        return Fused(self.running(super().forward(tokens, query).vector))


@pytest.mark.parametrize("variant", [HostReader, CountingNorm])
def test_a_ranker_that_cannot_be_stacked_trains_alone(variant, data, sizes, monkeypatch):
    monkeypatch.setitem(VARIANTS, "own", variant)
    recipe = BASE.updated({"model.variant": "own"})
    assert "vmap" in why_alone(start(recipe, data, seed=0), data)
    found = in_threads(Meeting(), [recipe, recipe], data)
    assert [found[place] for place in range(2)] == [alone(recipe, data, place) for place in range(2)]
    assert sizes == []


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "own"])
def test_every_variant_of_the_project_can_be_stacked(variant, data):
    assert why_alone(start(BASE.updated({"model.variant": variant}), data, seed=0), data) == ""
    sliced = BASE.updated({"model.variant": variant, "train.slice_queries": 4})
    assert "memory" in why_alone(start(sliced, data, seed=0), data)


def test_trainings_that_read_a_tuned_v1_share_a_stack(data, sizes):
    recipe = BASE.updated({"model.context": "tuned_v1"})
    assert why_alone(start(recipe, data, seed=0), data) == ""
    in_threads(Meeting(), [recipe, recipe], data, together=True)
    assert max(sizes) == 2


def test_members_share_their_buffers(data):
    """Whoever started from weights with other scales trains in a stack of his own."""
    plain, warm, other = (start(BASE, data, seed=seed) for seed in range(3))
    warm.model.projections.v1_scale.std.mul_(2.0)
    stack = Stack(data)
    stack.join(plain)
    with pytest.raises(ValueError, match=r"its ranker's buffers .* differ from its members'. Train it alone"):
        stack.join(warm)
    stack.keeps_places = True
    stack.join(other)
    stack.epoch()
    stack.leave(plain)
    stack.leave(other)
    stack.join(warm)  # there are empty places, with other scales
    ((state, result),) = stack.epoch()
    alone = start(BASE, data, seed=1)
    alone.model.projections.v1_scale.std.mul_(2.0)
    assert state is warm
    assert result.evaluation.mean_ndcg == pytest.approx(next(train(alone, data)).evaluation.mean_ndcg, abs=1e-4)
