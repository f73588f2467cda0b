"""The members of one structure in stacks: in one, or in several in turn where memory holds no more at once."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Sequence

import torch

from fusion_models.data import RankingDataset
from fusion_models.training.device_errors import lost_device, out_of_memory
from fusion_models.training.loop import train
from fusion_models.training.stack.stack import Outcome, Stack
from fusion_models.training.state import TrainingState


class Groups:
    """Trains members epoch by epoch. An epoch that fails for what it shares is done again with less in common.

    Want of memory halves a stack, down to a training alone; a step that cannot be recorded is taken unrecorded from
    then on. Whatever an epoch had changed in its members is undone first.
    """

    def __init__(self, data: RankingDataset, device: torch.device, *, share: float = 1.0) -> None:
        """`share`: what part of the device is this process's."""
        self._data, self._device, self._share = data, device, share
        self._stacks: list[Stack] = []
        self._limit: int | None = None
        """Members that one stack may have; 0: each trains alone; None: all of them."""
        self._graphs: bool | None = None

    def leave(self, state: TrainingState) -> None:
        """Let `state` go, made current."""
        for stack in self._stacks:
            if any(member is state for member in stack.members):
                stack.leave(state)

    def epoch(self, members: Sequence[TrainingState]) -> dict[int, Outcome | Exception]:
        """One epoch of all `members`, who are current afterwards: what came of it, by their ids.

        An error that nothing was to be done about is the outcome of those who met it.
        """
        found: dict[int, Outcome | Exception] = {}
        while left := [member for member in members if id(member) not in found]:
            if self._limit == 0:
                found[id(left[0])] = _alone(left[0], self._data)
                continue
            before: list[_Before] = []
            try:
                stack = self._seat(left, members)
                before = [_Before(member) for member in stack.members]
                found |= _trained(stack)
            except Exception as error:
                group = [each.member for each in before] or left
                again = self._less_in_common(len(group), error)
                if not again:
                    found |= {id(member): error for member in group}
                for each in before:
                    each.restore()
                self._stacks = []
            else:
                continue
            del before
            stack = None  # type: ignore[assignment]  # what it holds is needed now
            with contextlib.suppress(Exception):  # a device that is lost has none to give; the next epoch says so
                free_memory(self._device)
        return found

    def _seat(self, left: Sequence[TrainingState], members: Sequence[TrainingState]) -> Stack:
        """The stack of the first of `left`; who is not among `members` gives up his place, and newcomers get one."""
        staying = {id(member) for member in members}
        for stack in self._stacks:
            for member in stack.members:
                if id(member) not in staying:
                    stack.leave(member)
        seated = {id(member) for stack in self._stacks for member in stack.members}
        for member in left:
            if id(member) not in seated:
                self._with_room().join(member)
        return next(s for s in self._stacks if any(member is left[0] for member in s.members))

    def _with_room(self) -> Stack:
        for stack in self._stacks:
            if self._limit is None or len(stack.members) < self._limit:
                return stack
        self._stacks.append(Stack(self._data, self._device, graphs=self._graphs, share=self._share))
        return self._stacks[-1]

    def _less_in_common(self, members: int, error: Exception) -> bool:
        """Whether an epoch that failed is to be done again, and from now on how."""
        if lost_device(error):
            return False
        if out_of_memory(error):
            self._limit = 0 if members == 1 else (members + 1) // 2
            self._graphs = False  # what is recorded keeps its memory
            return True
        recorded = self._graphs is None and any(stack.graphs for stack in self._stacks)
        if recorded:
            self._graphs = False
        return recorded


def _trained(stack: Stack) -> dict[int, Outcome | Exception]:
    found = stack.epoch()
    for member in stack.members:
        stack.sync(member)
    return {id(member): outcome for member, outcome in found}


def _alone(state: TrainingState, data: RankingDataset) -> Outcome | Exception:
    try:
        return next(train(state, data))
    except Exception as error:  # his alone
        return error


def free_memory(device: torch.device) -> None:
    """Give back to the device what is no longer held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


class _Before:
    """A member as it was before an epoch of a stack, which replaces its tensors and changes none of them."""

    PLAIN = ("epoch", "best_epoch", "best_ndcg", "best_numbers", "best_weights", "random_state")

    def __init__(self, member: TrainingState) -> None:
        self.member = member
        self._plain = {name: getattr(member, name) for name in self.PLAIN}
        self._order = member.generator.get_state()
        self._weights = [(parameter, parameter.data) for parameter in member.model.parameters()]
        self._moments = {parameter: dict(slots) for parameter, slots in member.optimiser.state.items()}

    def restore(self) -> None:
        for name, value in self._plain.items():
            setattr(self.member, name, value)
        self.member.generator.set_state(self._order)
        for parameter, data in self._weights:
            parameter.data = data
        self.member.optimiser.state.clear()
        self.member.optimiser.state.update(self._moments)
