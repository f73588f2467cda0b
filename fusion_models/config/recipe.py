"""A recipe: everything that decides one training but its data and its seed, and the flat form in which it travels."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from fusion_models.config.loss import NEED_PARTNER, NEED_SEVERAL, NEED_SUSPECT, POINTLESS_ALONE, LossConfig
from fusion_models.config.model import V1, Flat, ModelConfig
from fusion_models.config.reading import near, read_as
from fusion_models.config.train import TrainConfig
from fusion_models.modalities import SUSPECT, V1_READS, partner_of, read_by_v1, require_modalities, require_suspect

Scalar = int | float | bool | str
"""What a setting of somebody's own module may be."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides one training but its data and its seed."""

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    own: tuple[tuple[str, Scalar], ...] = ()
    """Settings of a module of one's own (`model.variant`), by name: flat keys `own.NAME`."""
    suspect: str = SUSPECT
    """The modality that V2 is suspected not to use; flat keys have its name in them."""

    def __post_init__(self) -> None:
        require_suspect(self.suspect, self.model.of_dataset)

    @property
    def partner(self) -> str:
        """The first other modality of the dataset, which V2 is taken to lean on."""
        return partner_of(self.suspect, self.model.of_dataset)

    def key(self, neutral: str) -> str:
        """The flat key of `loss.suspect_importance`, `model.partner_tokens` and their kind; others stay as they are."""
        part, _, name = neutral.partition(".")
        for role, modality in (("suspect_", self.suspect), ("partner_", self.partner)):
            if name.startswith(role):
                return f"{part}.{modality}_{name.removeprefix(role)}"
        return neutral

    def needed_modalities(self) -> dict[str, tuple[str, ...]]:
        """Flat key of a setting -> the modalities without which it cannot apply."""
        return {self.key(key): (self.suspect,) for key in NEED_SUSPECT} | {
            self.key(key): (self.suspect, self.partner) for key in NEED_PARTNER
        }

    def flat(self) -> Flat:
        """`{"model.width": 32, ...}`: JSON-ready (tuples as `+`-joined text), every key present."""
        out: Flat = {f"own.{name}": value for name, value in self.own}
        for part in PARTS:
            for name, value in vars(getattr(self, part)).items():
                if name == TOKENS:
                    out |= {f"model.{modality}_tokens": count for modality, count in value}
                else:
                    out[self.key(f"{part}.{name}")] = "+".join(value) if isinstance(value, tuple) else value
        return out

    def updated(self, changes: Mapping[str, Any]) -> Recipe:
        """A recipe with some flat keys replaced; text is read as the field's type.

        Raises ValueError for an unknown key (naming near ones) or a value that does not fit its type.
        """
        fields = {self.key(f"{part}.{name}"): (part, name) for part in PARTS for name in _field_types(part)}
        del fields[f"model.{TOKENS}"]
        counts = {f"model.{m}_tokens": m for m in self.model.of_dataset}
        parts: dict[str, dict[str, Any]] = {"model": {}, "loss": {}, "train": {}}
        tokens, own = dict(self.model.tokens_each), dict(self.own)
        for key, value in changes.items():
            if key.startswith("own.") and (name := key.removeprefix("own.")) in own:
                own[name] = read_as(key, value, type(own[name]))
            elif key in counts:
                tokens[counts[key]] = read_as(key, value, int)
            elif key in fields:
                part, name = fields[key]
                parts[part][name] = read_as(key, value, _field_types(part)[name])
            else:
                raise ValueError(f"unknown configuration key {key!r}; {near(key, list(self.flat()))}")
        parts["model"][TOKENS] = tuple(tokens.items())
        new = {part: dataclasses.replace(getattr(self, part), **values) for part, values in parts.items()}
        return dataclasses.replace(self, **new, own=tuple(sorted(own.items())))

    def with_own(self, settings: Mapping[str, Scalar]) -> Recipe:
        """The same recipe with these settings of a module of one's own, and no others."""
        return dataclasses.replace(self, own=tuple(sorted(settings.items())))

    def for_modalities(self, modalities: tuple[str, ...], suspect: str) -> Recipe:
        """The same recipe for a dataset of these modalities, with this suspect.

        Suspect and partner keep the tokens that they had, other modalities have one each. The ranker has all of them,
        and a context reads those of them that V1 is taken to read. Raises ValueError for names that cannot be.
        """
        if (modalities, suspect) == (self.model.of_dataset, self.suspect):
            return self
        require_modalities(modalities)
        require_suspect(suspect, modalities)
        tokens = dict.fromkeys(modalities, 1) | {suspect: self.model.tokens(self.suspect)}
        tokens[partner_of(suspect, modalities)] = self.model.tokens(self.partner)
        model = dataclasses.replace(
            self.model,
            tokens_each=tuple(tokens.items()),
            modalities=modalities,
            context_reads=(V1, *read_by_v1(modalities)),
        )
        return dataclasses.replace(self, model=model, suspect=suspect)

    def restricted(self, modalities: tuple[str, ...], v1_reads: tuple[str, ...] = V1_READS) -> Recipe:
        """The same recipe built with `modalities` alone: terms that need one that is gone, or several, are off.

        What V1 reads (`v1_reads`) takes V1's score along when it goes, raw and in a tuned V1's trees: V1 would hand its
        content back. The trees lose the modality itself, too; where they have nothing left to read, the context goes.
        """
        off = [key for key, needed in self.needed_modalities().items() if not set(needed) <= set(modalities)]
        if len(modalities) == 1:
            off += [*NEED_SEVERAL, *POINTLESS_ALONE]
        gone = set(self.model.modalities) - set(modalities)
        changes = {"model.modalities": modalities} | dict.fromkeys(off, 0.0)
        return self.updated(changes | self.model.context_without(gone, v1_reads))

    @staticmethod
    def from_flat(flat: Mapping[str, Any]) -> Recipe:
        """The recipe of a flat form; keys left out keep their defaults.

        Its keys name the dataset's modalities and the suspect, where it has them all.
        """
        named = tuple(name for name in _names_between("model.", "_tokens", flat) if name != "bottleneck")
        suspects = _names_between("loss.", "_importance", flat)
        own = {key.removeprefix("own."): value for key, value in flat.items() if key.startswith("own.")}
        plain = Recipe().with_own(own)
        if "model.modalities" not in flat or not suspects or suspects[0] not in named:
            return plain.updated(flat)
        return plain.for_modalities(named, suspects[0]).updated(flat)


PARTS: dict[str, type] = {"model": ModelConfig, "loss": LossConfig, "train": TrainConfig}
TOKENS = "tokens_each"


def _names_between(start: str, end: str, keys: Iterable[str]) -> list[str]:
    """`visual` of `loss.visual_importance`: what stands between `start` and `end` in the keys that have both."""
    return [key.removeprefix(start).removesuffix(end) for key in keys if key.startswith(start) and key.endswith(end)]


@lru_cache(maxsize=len(PARTS))
def _field_types(part: str) -> dict[str, Any]:
    return typing.get_type_hints(PARTS[part])
