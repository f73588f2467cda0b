"""One team's numbers beside its gates: below what a modality has nothing to give, by how much a rival may lead."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Differences of the phase's metric unless said otherwise; the defaults are the roadmap's, of nDCG@10."""

    nothing_to_give: float = 0.005
    """A refit gain wholly below it: the modality has nothing to give. One that counts lies wholly above."""
    least_gain: float = 0.015
    """After phase 3 a gain over V1 wholly below this ends V2."""
    as_good_as_tuned_v1: float = 0.005
    """V2's lead over a tuned V1 wholly below this: V1 gains as much by tuning."""
    lead_without_suspect: float = 0.005
    """From phase 3 on, the lead over the strongest ranker without the suspect must lie wholly above it."""
    rival_worse: float = 0.005
    """A rival that surely leads, and by more than this on the mean, fails V2."""
    rival_half_width: float = 0.02
    """A wider interval to each side of a lead over a rival says nothing, unless all of it lies above -`rival_worse`."""
    slowest_ms: float = 150.0
    """P95 of one query, milliseconds, that some runtime variant must stay under."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ValueError(f"thresholds.{field.name} must be above 0, got {value}")
