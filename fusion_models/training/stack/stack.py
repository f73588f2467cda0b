"""Trainings of one structure that take their steps together, and come and go between epochs."""

from __future__ import annotations

import dataclasses
import math
import time
import zlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.evaluation import Evaluation
from fusion_models.training.loop import EpochResult
from fusion_models.training.stack.evaluation import StackedEvaluation
from fusion_models.training.stack.network import StackedRanker, broken_parts
from fusion_models.training.stack.optimiser import StackedAdamW
from fusion_models.training.stack.plan import chunks, draws_of
from fusion_models.training.stack.rows import read_state, write_state
from fusion_models.training.stack.stepping import Stepper
from fusion_models.training.stack.structure import buffers_digest, differences
from fusion_models.training.stack.tables import HostTables, Tables, tables_for
from fusion_models.training.state import TrainingState
from fusion_models.training.step import DivergedError
from fusion_models.tuned_v1 import seen_by

Outcome = EpochResult | DivergedError


class Stack:
    """Trainings that share kernels; between two `epoch()`s they may join and leave.

    A member trains as it would alone: same weights, batches, shuffles, rates, clipping and patience, from the same
    `TrainingState`, so that a training may change between alone and a stack at any epoch. Two things differ from
    a training alone: rounding, and the masks of dropout layers, which follow from its seed, epoch and step by another
    rule (`MemberDropout`). They are the same whoever else is in the stack; what a fusion of somebody's own draws beside
    `nn.Dropout` is not.
    """

    def __init__(
        self,
        data: RankingDataset,
        device: torch.device | str = "cpu",
        *,
        graphs: bool | None = None,
        share: float = 1.0,
    ) -> None:
        """`graphs`: record steps as CUDA graphs; None: on a GPU. `share`: what part of the device is this process's."""
        self.data = data
        self.device = torch.device(device)
        self.graphs = self.device.type == "cuda" if graphs is None else graphs
        self.keeps_places = self.graphs
        """Whether places stay empty for the next member, until half of them are: recording steps anew takes longer."""
        self._share = share
        self.tables = tables_for(data, self.device, share)
        self._joining: list[TrainingState] = []
        self._built: _Built | None = None

    @property
    def members(self) -> list[TrainingState]:
        """Everybody who trains, or will from the next epoch on."""
        return [m for m in self._built.places if m is not None] + self._joining if self._built else self._joining

    def join(self, state: TrainingState) -> None:
        """Take `state` in, from the next epoch on.

        Raises ValueError where its structure is not that of the other members, naming the keys, or its buffers are not.
        """
        if self.members:
            found = differences(self.members[0].recipe, state.recipe)
            if found:
                raise ValueError(
                    f"this training cannot join the stack: {', '.join(found)} differ from its members'. "
                    "Train it alone, or in a stack of its own"
                )
            if buffers_digest(self.members[0].model) != buffers_digest(state.model):
                raise ValueError(
                    "this training cannot join the stack: its ranker's buffers (scales, say, of the weights that it "
                    "started from) differ from its members'. Train it alone, or in a stack of its own"
                )
        if state.device != self.device:
            raise ValueError(f"this training is on {state.device}, the stack on {self.device}: start it there")
        seen = seen_by(state.model, self.data)
        if seen is not self.data:  # the first member whose context holds a tuned V1
            self.data, self.tables = seen, tables_for(seen, self.device, self._share)
        self._joining = [*self._joining, state]

    def leave(self, state: TrainingState) -> None:
        """Let `state` go, made current; the others do not notice."""
        if any(other is state for other in self._joining):
            self._joining = [other for other in self._joining if other is not state]
            return
        assert self._built is not None
        place = self._place(state)
        self._built.write(place, state)
        self._built.places[place] = None

    def sync(self, state: TrainingState) -> None:
        """Bring `state` up to date: its model, optimiser and best weights, say for a checkpoint."""
        if self._built is not None and any(other is state for other in self._built.places):
            self._built.write(self._place(state), state)

    def epoch(self) -> list[tuple[TrainingState, Outcome]]:
        """Train everybody for one epoch; who diverges or finishes leaves, made current.

        In `EpochResult.seconds` each member counts its part of the epoch's time: the sum is what the stack took.
        """
        started = time.perf_counter()
        built = self._prepared()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(_dropout_seed(built.members))
            log = self._train(built).double()
        host = log.cpu()
        bad = ~torch.isfinite(host[:, -1]).all(dim=0)
        found: list[tuple[TrainingState, Outcome]] = []
        with torch.no_grad():
            built.optimiser.weights[bad.to(self.device)] = 0.0  # a row that is no number any more scores as one
        evaluations = built.evaluation(built.ranker, built.optimiser.weights, brief=True)
        for place, member in enumerate(built.places):
            if member is not None:
                parts = dict(zip(built.ranker.part_names, host[:, :, place].mean(dim=0).tolist(), strict=True))
                evaluation = evaluations[place]
                if bad[place] or evaluation is None:
                    found.append((member, _diverged(member, host[:, :, place], built.ranker.part_names)))
                else:
                    found.append((member, _told(member, evaluation, parts)))
        self._keep_best(built, found)
        seconds = (time.perf_counter() - started) / len(found)
        found = [(m, dataclasses.replace(o, seconds=seconds) if isinstance(o, EpochResult) else o) for m, o in found]
        for member, outcome in found:
            if isinstance(outcome, DivergedError) or outcome.finished:
                self.leave(member)
        return found

    def probe(self, steps: int) -> float:
        """Seconds of an epoch, told from some of its steps and its evaluation; the members are of no use afterwards."""
        built = self._prepared()
        plan = chunks(built.places, self.data, built.stepper.draws, self.device, self.tables.index_device)
        chunk = next(plan)
        some = dataclasses.replace(chunk, steps=chunk.steps[:steps])
        all_steps = math.ceil(len(self.data.rows("train")) / built.members[0].recipe.train.batch_queries)
        for _ in range(2):  # the first time records steps and fills caches
            began = self._clock()
            built.stepper.run(some)
            between = self._clock()
            built.evaluation(built.ranker, built.optimiser.weights, brief=True)
            ended = self._clock()
        return (between - began) * all_steps / len(some.steps) + ended - between

    def _clock(self) -> float:
        """Seconds, once the device has done what it was asked."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _train(self, built: _Built) -> Tensor:
        """One epoch of steps: the loss parts `[steps, parts, S]` on the device."""
        plan = chunks(built.places, self.data, built.stepper.draws, self.device, self.tables.index_device)
        return torch.cat([built.stepper.run(chunk) for chunk in plan])

    def _keep_best(self, built: _Built, found: list[tuple[TrainingState, Outcome]]) -> None:
        """Blank the suspect for those that improved, note what they reached, and keep their weights."""
        better = [i for i, (_, outcome) in enumerate(found) if isinstance(outcome, EpochResult) and outcome.improved]
        if not better:
            return
        places = [self._place(found[i][0]) for i in better]
        masked = built.evaluation.masked(built.ranker, built.optimiser.weights, blanks=(built.ranker.template.suspect,))
        for i, place in zip(better, places, strict=True):
            member, outcome = found[i]
            assert isinstance(outcome, EpochResult)
            outputs = dataclasses.replace(outcome.evaluation.outputs)
            known = outputs.knowing(outcome.evaluation.ndcg, masked[place])
            evaluation = dataclasses.replace(outcome.evaluation, outputs=known)
            member.best_numbers = evaluation.numbers()
            found[i] = member, dataclasses.replace(outcome, evaluation=evaluation)
        index = torch.tensor(places, device=self.device)
        built.best[index] = built.optimiser.weights[index]

    def _place(self, state: TrainingState) -> int:
        assert self._built is not None
        return next(i for i, other in enumerate(self._built.places) if other is state)

    def _prepared(self) -> _Built:
        """The stack in the shape that its members need: built anew where that changed enough to pay."""
        built = self._built
        if not self.members:
            raise ValueError("a stack needs at least one training: join one")
        if built is not None:
            self._joining = [state for state in self._joining if not built.admit(state)]
            alive = len(built.members)
            sparse = alive < len(built.places) if not self.keeps_places else 2 * alive <= len(built.places)
            if not self._joining and not sparse:
                return built
            for place, member in enumerate(built.places):
                if member is not None:
                    built.write(place, member)
        self._built = _Built(self.members, self.data, self.tables, self.device, graphs=self.graphs)
        self._joining = []
        return self._built


class _Built:
    """A stack of a fixed number of places, on its device."""

    def __init__(
        self,
        members: Sequence[TrainingState],
        data: RankingDataset,
        tables: Tables | HostTables,
        device: torch.device,
        *,
        graphs: bool,
    ) -> None:
        self.places: list[TrainingState | None] = list(members)
        recipes = [member.recipe for member in members]
        self.ranker = StackedRanker(recipes, data, device, like=members[0].model)
        self._buffers = buffers_digest(members[0].model)
        weights = torch.empty(len(members), sum(self.ranker.sizes), device=device)
        self.best = torch.empty_like(weights)
        self.optimiser = StackedAdamW(weights, self.ranker.decays, self.ranker.suspect_P)
        for place, member in enumerate(members):
            self._read(place, member)
        draws = draws_of(recipes[0], pictures=self.ranker.template.thumbnail is not None)
        self.stepper = Stepper(self.ranker, self.optimiser, tables, draws, graphs=graphs)
        channels = len(members) * recipes[0].model.width
        self.evaluation = StackedEvaluation(data, tables, "validation", device=device, channels=channels)

    @property
    def members(self) -> list[TrainingState]:
        return [member for member in self.places if member is not None]

    def admit(self, member: TrainingState) -> bool:
        """Give an empty place to `member`, where there is one and it fits."""
        if None not in self.places:
            return False
        place = self.places.index(None)
        if buffers_digest(member.model) != self._buffers:
            return False
        if not self.ranker.replace(place, member.recipe):
            return False
        self.places[place] = member
        self._read(place, member)
        return True

    def _read(self, place: int, member: TrainingState) -> None:
        train = member.recipe.train
        self.optimiser.decay[place] = train.weight_decay
        self.optimiser.suspect_scale[place] = train.suspect_learning_rate_scale
        self.optimiser.clip[place] = train.gradient_clip
        read_state(member, self.ranker, self.optimiser, self.best, place)

    def write(self, place: int, member: TrainingState) -> None:
        write_state(member, self.ranker, self.optimiser, self.best, place)


def train_stack(
    states: Sequence[TrainingState], data: RankingDataset, *, graphs: bool | None = None
) -> Iterator[list[tuple[TrainingState, Outcome]]]:
    """`train` for several trainings of one structure on one device: each `next()` is an epoch of all that still train.

    Yields what the epoch gave each of them; who finished or diverged is not among the next epoch's. Between two
    `next()`s every state is current.
    """
    stack = Stack(data, states[0].device, graphs=graphs)
    for state in states:
        if not state.finished:
            stack.join(state)
    while stack.members:
        found = stack.epoch()
        for member in stack.members:
            stack.sync(member)
        yield found


def _told(member: TrainingState, evaluation: Evaluation, parts: dict[str, float]) -> EpochResult:
    """Note an epoch that went well in `member`, as `train` does."""
    member.epoch += 1
    improved = evaluation.mean_ndcg > member.best_ndcg
    if improved:
        member.best_epoch, member.best_ndcg = member.epoch, evaluation.mean_ndcg
    return EpochResult(
        epoch=member.epoch,
        parts=parts,
        evaluation=evaluation,
        improved=improved,
        finished=member.finished,
        seconds=0.0,
    )


def _diverged(member: TrainingState, parts: Tensor, names: Sequence[str]) -> DivergedError:
    """The error that a training alone raises; `parts` `[steps, parts]` of this member."""
    hint = "a lower train.learning_rate or loss weight may help"
    broken = (~torch.isfinite(parts[:, -1])).nonzero()
    if not len(broken):
        return DivergedError(f"the scores are not finite after epoch {member.epoch + 1}: {hint}")
    step = int(broken[0])
    terms = broken_parts(names, parts[step].tolist())
    where = f"epoch {member.epoch + 1}, step {step + 1} of {len(parts)}"
    return DivergedError(f"the loss is not finite at {where} (in {', '.join(terms) or 'the weighted sum'}): {hint}")


def _dropout_seed(members: Sequence[TrainingState]) -> int:
    return zlib.crc32(repr([(member.seed, member.epoch) for member in members]).encode())
