"""Modules that each break one rule of a ranker, and are sound elsewhere."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from fusion_models.own import Fused, Fusion, Ranked


@dataclass(frozen=True)
class Settings:
    width: int = 8


class Sound(nn.Module):
    """One linear scorer a modality, and of V1's two scores and the context: returns scores alone."""

    def __init__(self, widths, modalities):
        super().__init__()
        self.scorers = nn.ModuleDict({m: nn.Linear(widths.features[m], 1) for m in modalities})
        self.rest = nn.Linear(widths.context + 2, 1)

    def parts(self, inputs):
        rest = torch.cat([inputs.context, inputs.v1[..., None], inputs.tuned_v1[..., None]], dim=-1)
        found = {m: scorer(inputs.features[m]).squeeze(-1) for m, scorer in self.scorers.items()}
        return found | {"rest": self.rest(rest).squeeze(-1)}

    def forward(self, inputs):
        return sum(self.parts(inputs).values())


class SumOverModalities(Sound):
    """Scores `[B, L, 1]`."""

    def forward(self, inputs):
        return super().forward(inputs).unsqueeze(-1)


class UndeclaredEvidence(Sound):
    def forward(self, inputs):
        scores = super().forward(inputs)
        return Ranked(scores, fused=scores.unsqueeze(-1))


class NeverWithout(Sound):
    """Cannot be built without the text."""

    def __init__(self, widths, modalities):
        super().__init__(widths, modalities)
        if "text" not in modalities:
            raise ValueError("no text")


class MeanOverPadding(Sound):
    def forward(self, inputs):
        scores = super().forward(inputs)
        return scores * (1 + scores.mean(dim=1, keepdim=True))


class ReadsPlaces(Sound):
    def forward(self, inputs):
        scores = super().forward(inputs)
        return scores + torch.arange(scores.shape[1]) / 10


class UnusedParameter(Sound):
    def __init__(self, widths, modalities):
        super().__init__(widths, modalities)
        self.forgotten = nn.Linear(3, 3)


class DeadParameter(Sound):
    def __init__(self, widths, modalities):
        super().__init__(widths, modalities)
        self.dead = nn.Parameter(torch.ones(()))

    def forward(self, inputs):
        return super().forward(inputs) + 0.0 * self.dead


class BatchNorm(Sound):
    def __init__(self, widths, modalities):
        super().__init__(widths, modalities)
        self.norm = nn.BatchNorm1d(1, affine=False)

    def forward(self, inputs):
        scores = super().forward(inputs)
        return self.norm(scores.reshape(-1, 1)).reshape(scores.shape)


class BreaksOnZeros(Sound):
    """A norm without an epsilon."""

    def __init__(self, widths, modalities):
        super().__init__(widths, modalities)
        self.scale = nn.Parameter(torch.ones(len(modalities)))

    def forward(self, inputs):
        scores = super().forward(inputs)
        for index, x in enumerate(inputs.features[m] for m in self.scorers):
            scores = scores + self.scale[index] * x[..., 0] / x.norm(dim=-1)
        return scores


class BlindToText(Sound):
    def forward(self, inputs):
        parts = self.parts(inputs)
        if "text" in parts:
            parts["text"] = self.scorers["text"].bias + self.scorers["text"].weight.sum() + 0.0 * parts["text"]
        return sum(parts.values())


class ForgetsOnSaving(Sound):
    def __init__(self, widths, modalities):
        super().__init__(widths, modalities)
        self.offset = torch.randn(1, 50)

    def forward(self, inputs):
        scores = super().forward(inputs)
        return scores * (1.5 + self.offset[0, 0])


class NoisyInEvaluation(Sound):
    def forward(self, inputs):
        return super().forward(inputs) * (1 + 0.1 * torch.rand(1))


class ChangesItsInputs(Sound):
    def forward(self, inputs):
        for x in inputs.features.values():
            if not x.requires_grad and x.is_contiguous():
                x *= 2
        return super().forward(inputs)


class StrangeRange(Sound):
    SPACE: ClassVar = {"wdith": None}

    def __init__(self, widths, modalities, settings: Settings):
        super().__init__(widths, modalities)


class ForgetsOnResuming(Sound):
    """A loop of its own whose rate depends on how often it was stepped in this process."""

    def train_epochs(self, training):
        rate = 0.1
        while True:
            for batch in training.batches():
                loss = -(batch.labels * torch.log_softmax(self(batch.inputs), dim=1)).mean()
                self.zero_grad()
                loss.backward()
                with torch.no_grad():
                    for parameter in self.parameters():
                        parameter -= rate * parameter.grad
            rate /= 2
            yield {"loss": loss.item()}


class OwnLoop(Sound):
    """The same by SGD with momentum, whose state is kept."""

    def make_optimiser(self, train):
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)

    def train_epochs(self, training):
        for _ in range(training.epoch, training.train.epochs):
            losses = []
            for batch in training.batches():
                logits = self(batch.inputs).masked_fill(~batch.inputs.valid, -1e9)
                loss = -(batch.labels * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
                training.optimiser.zero_grad()
                loss.backward()
                training.optimiser.step()
                losses.append(loss.item())
            yield {"loss": sum(losses) / len(losses)}


class ListsInItsState(OwnLoop):
    """An optimiser whose state is lists of tensors."""

    def make_optimiser(self, train):
        return torch.optim.LBFGS(self.parameters(), lr=0.01, max_iter=2)

    def train_epochs(self, training):
        for _ in range(training.epoch, training.train.epochs):
            for batch in training.batches():

                def loss(batch=batch):
                    logits = self(batch.inputs).masked_fill(~batch.inputs.valid, -1e9)
                    found = -(batch.labels * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
                    training.optimiser.zero_grad()
                    found.backward()
                    return found

                last = training.optimiser.step(loss)
            yield {"loss": last.item()}


class RateIsATensor(OwnLoop):
    def make_optimiser(self, train):
        return torch.optim.Adam(self.parameters(), lr=torch.tensor(0.01))


class DropsInItsLoop(OwnLoop):
    """With dropout, which draws on the device."""

    def forward(self, inputs):
        return nn.functional.dropout(super().forward(inputs), 0.3, self.training)


class DrawsInItsLoop(OwnLoop):
    """Says what it drew."""

    def train_epochs(self, training):
        while True:
            yield {"seed": float(torch.initial_seed() % 2**31), "drawn": float(torch.rand(()))}


class Fixed(nn.Module):
    """Built for all modalities, always."""

    def __init__(self, widths):
        super().__init__()
        self.scorers = nn.ModuleDict({m: nn.Linear(width, 1) for m, width in widths.features.items()})

    def forward(self, inputs):
        v1 = inputs.v1 + inputs.tuned_v1
        return v1 + sum(self.scorers[m](inputs.features[m]).squeeze(-1) for m in self.scorers)


class MeanFusion(Fusion):
    """The mean of all tokens, and the query."""

    def __init__(self, config, owner, settings: Settings):
        super().__init__(config, owner)
        self.mix = nn.Sequential(
            nn.Linear(config.width, settings.width), nn.GELU(), nn.Linear(settings.width, config.width)
        )

    def forward(self, tokens, query):
        return Fused(self.mix(tokens.mean(dim=1) * (1 + query)) + query)


class HostFusion(MeanFusion):
    """Reads a number on the host, so it cannot be called for several trainings at once."""

    def forward(self, tokens, query):
        fused = super().forward(tokens, query)
        return fused if fused.vector.abs().sum().item() >= 0 else Fused(query)


class NeedsMore(nn.Module):
    def __init__(self, budget):
        super().__init__()


class Mutable(nn.Module):
    def __init__(self, settings: dict):
        super().__init__()


class NoModule:
    pass


class Searched(Sound):
    """Sound; a test gives it a `SPACE`."""

    def __init__(self, widths, modalities, settings: Settings):
        super().__init__(widths, modalities)


@dataclass(frozen=True)
class Choosy:
    heads: int = 3

    def __post_init__(self):
        assert self.heads != 3, "heads must not be 3"


class RefusesItsDefaults(Sound):
    def __init__(self, widths, modalities, settings: Choosy):
        super().__init__(widths, modalities)


@dataclass(frozen=True)
class Bare:
    heads: int


class HasNoDefault(Sound):
    def __init__(self, widths, modalities, settings: Bare):
        super().__init__(widths, modalities)


class NoSpace(Sound):
    SPACE = None


class SpaceIsAList(Sound):
    SPACE = ("width",)


class GivesANumber(Sound):
    gives = 5
