"""The modalities of a dataset: what they may be called, and what is taken for granted where nothing is said.

A dataset declares its modalities (`data/tables/declaration.py`), two or more, in an order of its own. One of them is
the *suspect*: the one that V2 may not use. The first other one is its *partner*: what V2 is taken to lean on. The base
recipe gives it many tokens, and the contrastive term pairs the suspect with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MODALITIES: tuple[str, ...] = ("visual", "text", "metadata")
"""Of a dataset that declares none."""
SUSPECT = MODALITIES[0]
"""The modality under suspicion, unless a run names another."""
V1_READS: tuple[str, ...] = MODALITIES[1:]
"""The modalities that the production ranker (V1) reads, unless a phase says otherwise: those that the dataset has."""
PICTURED = MODALITIES[0]
"""The modality that a column `image` shows."""
TITLED = MODALITIES[1]
"""The modality that a column `title` puts into words."""
QUANTITIES: tuple[str, ...] = MODALITIES[2:]
"""Modalities whose features are separate quantities, each on a scale of its own, unless the dataset says otherwise."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
RESERVED = frozenset(
    {
        *("v1", "context", "query", "pair", "bottleneck", "min", "max", "none", "all"),
        *("max_share", "min_share", "balance", "image", "title", "item_id", "query_id", "label", "v1_score"),
        # attributes of torch's ModuleDict, in which a ranker keeps one encoder a modality
        *("clear", "items", "keys", "pop", "training", "type", "update", "values"),
    }
)
"""Names that mean something else in a recipe, a table or a batch."""


def require_modalities(names: Sequence[str]) -> None:
    """Raise ValueError unless these can be the modalities of a dataset: two or more, each a name of its own."""
    for name in names:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a modality: a name is a letter, then letters, digits and _")
        if name.lower() in RESERVED:
            raise ValueError(f"{name!r} cannot be a modality: the name means something else; call it {name}_features")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ValueError(f"the modality {twice[0]!r} is named twice")
    if len(names) < 2:
        raise ValueError(f"two modalities are needed at the least, got {', '.join(names) or 'none'}")


def require_suspect(suspect: str, modalities: Sequence[str]) -> None:
    """Raise ValueError unless the suspect is one of the modalities."""
    if suspect not in modalities:
        raise ValueError(f"the suspect must be a modality of the dataset ({', '.join(modalities)}), got {suspect!r}")


def usual_suspect(modalities: Sequence[str]) -> str:
    """The default suspect, or the first modality where the dataset lacks it: for trials that decide nothing."""
    return SUSPECT if SUSPECT in modalities else modalities[0]


def partner_of(suspect: str, modalities: Sequence[str]) -> str:
    """The first other modality, in the dataset's order: what V2 is taken to lean on."""
    return next(m for m in modalities if m != suspect)


def read_by_v1(modalities: Sequence[str]) -> tuple[str, ...]:
    """Of a dataset's modalities those that V1 is taken to read where nothing is said."""
    return tuple(m for m in modalities if m in V1_READS)
