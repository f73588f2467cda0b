"""The roadmap's phases for another dataset: its modalities, its suspect, and what goes by their names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from fusion_models.config import Flat
from fusion_models.modalities import PICTURED, read_by_v1
from spaces.phase import Gate, Objective, Phase

NAMED = (
    "loss.suspect_importance",
    "loss.suspect_importance_form",
    "train.suspect_learning_rate_scale",
    "model.suspect_tokens",
    "model.partner_tokens",
)
"""Recipe keys that hold the name of the suspect or of its partner, as `Recipe.key` takes them."""
IMAGE = "image"
"""What components of the roadmap call the suspect where it is the modality of pictures."""


def for_dataset(phase: Phase, modalities: tuple[str, ...], suspect: str) -> Phase:
    """The same phase for a dataset of these modalities, with this suspect.

    Keys, objectives, gates and components that go by the suspect go by the new one; limits on shares keep their
    distance from an even share; V1 is taken to read those of the modalities that it reads by default. Raises ValueError
    where the dataset has no such suspect.
    """
    if (modalities, suspect) == (phase.base.model.of_dataset, phase.suspect):
        return phase
    base = phase.base.for_modalities(modalities, suspect)
    keys = {phase.base.key(name): base.key(name) for name in NAMED}

    def named(changes: Mapping[str, object]) -> Flat:
        return {keys.get(key, key): value for key, value in changes.items()}

    words = (phase.suspect, IMAGE) if phase.suspect == PICTURED else (phase.suspect,)

    def said(text: str) -> str:
        if suspect == phase.suspect:
            return text
        return re.sub(rf"(?<![A-Za-z0-9])(?:{'|'.join(words)})(?![A-Za-z0-9])", suspect, text)

    even = len(phase.base.model.of_dataset) / len(modalities)

    def gate(found: Gate) -> Gate:
        limited = found.with_shares(even)
        return dataclasses.replace(limited, name=said(found.name), quantity=said(found.quantity))

    def objective(found: Objective) -> Objective:
        return dataclasses.replace(found.with_shares(even), name=said(found.name))

    ranges = {
        keys.get(key, key): dataclasses.replace(span, when=named(span.when)) for key, span in phase.ranges.items()
    }
    return dataclasses.replace(
        phase,
        base=base,
        suspect=suspect,
        v1_reads=read_by_v1(modalities),
        known={name: named(changes) for name, changes in phase.known.items()},
        ranges=ranges,
        reference=named(phase.reference),
        ablatable={said(name): named(changes) for name, changes in phase.ablatable.items()},
        objectives=tuple(objective(found) for found in phase.objectives),
        gates=tuple(gate(found) for found in phase.gates),
        resume_gates=tuple(gate(found) for found in phase.resume_gates),
    )
