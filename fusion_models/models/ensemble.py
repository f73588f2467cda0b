"""Several trainings of one recipe as one ranker: the mean of their within-query standardised scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from fusion_models.data.batch import Batch
from fusion_models.models.fusion import ShareKind
from fusion_models.models.output import RankerOutput
from fusion_models.models.trainable import TrainableRanker
from fusion_models.models.trees import TreeEnsemble

ROUNDING = 1e-6
"""A list whose scores spread by less than this part of the largest one is constant, as far as float32 goes."""


class Ensemble(nn.Module):
    """k rankers that score a list as one, used wherever a `TrainableRanker` is.

    A score depends on the whole list by its mean and deviation: permuting candidates permutes scores and padding
    changes nothing, but a list must be scored whole. Shares are means over the members; what the members represent
    (`fused`, `projected`) stands side by side, k times as wide.
    """

    scores_whole_lists = True

    def __init__(self, members: Sequence[TrainableRanker]) -> None:
        """Raises ValueError where there is no member, or they do not read the same."""
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs at least one member")
        first = members[0]
        for other in members[1:]:
            if (other.modalities, other.share_kind, _digest(other)) != (
                first.modalities,
                first.share_kind,
                _digest(first),
            ):
                raise ValueError("members must be trainings of one recipe on one dataset")
        self.rankers = nn.ModuleList(members)
        self.modalities: tuple[str, ...] = first.modalities
        self.share_kind: ShareKind = first.share_kind

    @property
    def members(self) -> tuple[TrainableRanker, ...]:
        """The trained rankers that this one is made of."""
        return tuple(self.rankers)  # type: ignore[arg-type]

    @property
    def device(self) -> torch.device:
        """See `TrainableRanker.device`."""
        return self.members[0].device

    @property
    def trees(self) -> TreeEnsemble | None:
        """Of a tuned V1 in the context, the same in every member."""
        return self.members[0].trees

    @property
    def thumbnail(self) -> nn.Module | None:
        """Whether pictures can be decoded (None: no)."""
        return self.members[0].thumbnail

    def forward(self, batch: Batch) -> RankerOutput:
        """Scores and evidence of B lists of L candidates; padded places score 0. No auxiliary heads."""
        outs = [member(batch) for member in self.members]
        return RankerOutput(
            scores=torch.stack([standardised(out.scores, batch.valid) for out in outs]).mean(dim=0),
            fused=torch.cat([out.fused for out in outs], dim=-1),
            projected=torch.cat([out.projected for out in outs], dim=-1),
            shares=_mean([out.shares for out in outs]),
            value_shares=_mean([out.value_shares for out in outs]),
            auxiliary={},
        )

    def complete(self, batch: Batch) -> Batch:
        """See `TrainableRanker.complete`."""
        return self.members[0].complete(batch)

    def fixed_scores(self, batch: Batch) -> Callable[[Batch], Tensor]:
        """The scores `[B, L]` of the same lists with other features, each member standardised as it is on `batch`.

        So a change of one document's features moves no other document's score, as for a single ranker.
        """
        scales = [_mean_and_deviation(member(batch).scores, batch.valid) for member in self.members]

        def scores(changed: Batch) -> Tensor:
            each = [
                _scaled(member(changed).scores, mean, deviation)
                for member, (mean, deviation) in zip(self.members, scales, strict=True)
            ]
            return torch.stack(each).mean(dim=0)

        return scores

    @contextmanager
    def scores_only(self) -> Iterator[None]:
        """See `TrainableRanker.scores_only`."""
        with ExitStack() as stack:
            for member in self.members:
                stack.enter_context(member.scores_only())
            yield

    def decode_thumbnails(self, fused: Tensor) -> Tensor:
        """The mean of the members' pictures `[n, 3, S, S]`, in [0, 1], of fused vectors `[n, k * D]`.

        Raises ValueError if the members have no decoder.
        """
        parts = fused.chunk(len(self.members), dim=-1)
        return torch.stack(
            [member.decode_thumbnails(part) for member, part in zip(self.members, parts, strict=True)]
        ).mean(dim=0)

    def feature_mean(self, modality: str) -> Tensor:
        """See `TrainableRanker.feature_mean`."""
        return self.members[0].feature_mean(modality)


Ranker = TrainableRanker | Ensemble
"""What scores lists: one training, or several as one."""


def standardised(scores: Tensor, valid: Tensor) -> Tensor:
    """Mean 0 and (population) deviation 1 over each list's real documents, `[B, L]`.

    0 in constant lists and padding.
    """
    mean, deviation = _mean_and_deviation(scores, valid)
    return _scaled(scores, mean, deviation).masked_fill(~valid, 0.0)


def _mean_and_deviation(scores: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """`[B, 1]` each; deviation 0 for a list whose scores are equal up to rounding."""
    real = scores.masked_fill(~valid, 0.0)
    counts = valid.sum(dim=1, keepdim=True).clamp(min=1)
    mean = real.sum(dim=1, keepdim=True) / counts
    deviation = ((scores - mean).masked_fill(~valid, 0.0).square().sum(dim=1, keepdim=True) / counts).sqrt()
    largest = real.abs().amax(dim=1, keepdim=True)
    return mean, deviation.masked_fill(deviation <= ROUNDING * largest, 0.0)


def _scaled(scores: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    constant = deviation == 0.0
    return ((scores - mean) / deviation.masked_fill(constant, 1.0)).masked_fill(constant, 0.0)


def _mean(parts: Sequence[Tensor | None]) -> Tensor | None:
    """The mean of what every member gave; None where it is not worked out."""
    given = [part for part in parts if part is not None]
    return torch.stack(given).mean(dim=0) if len(given) == len(parts) else None


def _digest(member: TrainableRanker) -> str:
    return "" if member.trees is None else member.trees.digest
