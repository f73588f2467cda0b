"""A module found by its import name, `package.module:Class`: what it is, its settings, its ranges, its source."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import inspect
import os
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from fusion_models.config import Flat, Recipe, Scalar
from fusion_models.models.fusion import Fusion, ShareKind

RANKER_TAKES = ("settings", "widths", "statistics", "modalities")
"""What a ranker's constructor may name; it is given what it names."""
EVIDENCE = ("projected", "fused")
"""What a ranker may say in `gives` that it returns beside its scores."""
SCALARS = (bool, int, float, str)


class OwnModelError(ValueError):
    """A module of one's own that cannot be used: which, why, and what to do."""


def is_own(variant: str) -> bool:
    """Whether `model.variant` is the import name of somebody's own module."""
    return ":" in variant


@dataclass(frozen=True, kw_only=True)
class OwnModel:
    """A module of one's own, imported and looked at."""

    reference: str
    cls: type[nn.Module]
    kind: Literal["fusion", "ranker"]
    settings: type[Any] | None
    """The frozen dataclass of its settings: the annotation of its constructor's `settings`."""
    space: Mapping[str, Any]
    """Setting -> range; also `train.*` and `loss.*` keys, whose ranges stand in for ours."""
    takes: frozenset[str]
    """Of `RANKER_TAKES`, what its constructor names."""
    gives: frozenset[str]
    """Of `EVIDENCE`, what it returns beside its scores; a fusion's ranker is ours and returns all."""
    share_kind: ShareKind
    root: Path
    """Its top-level package's folder, or its file: what travels to other machines."""

    @property
    def has_shares(self) -> bool:
        """Whether it has attention or a gate whose shares it returns."""
        return self.share_kind != "gradient_times_input"

    @property
    def has_encoders(self) -> bool:
        """Whether each modality has an encoder of its own, that can be given a rate of its own."""
        return self.kind == "fusion" or hasattr(self.cls, "encoder_parameters")

    @property
    def has_loop(self) -> bool:
        """Whether it brings its own training loop."""
        return self.kind == "ranker" and hasattr(self.cls, "train_epochs")

    def defaults(self) -> dict[str, Scalar]:
        """Its settings as they are unless said otherwise, each of its declared type."""
        if self.settings is None:
            return {}
        name = self.settings.__name__
        bare = [f.name for f in dataclasses.fields(self.settings) if f.init and f.default is f.default_factory]
        if bare:
            raise OwnModelError(f"{self.reference}: give every field of {name} a default ({', '.join(bare)})")
        try:
            made = dataclasses.asdict(self.settings())
            kinds = typing.get_type_hints(self.settings)
        except Exception as error:  # whatever its __post_init__ raises, or reading its annotations
            raise OwnModelError(
                f"{self.reference}: {name} cannot be made with its defaults: {type(error).__name__}: {error}"
            ) from error
        return {key: float(value) if kinds[key] is float else value for key, value in made.items()}

    def settings_of(self, recipe: Recipe) -> Any:
        """The settings of a recipe, as its constructor takes them. Raises OwnModelError for what it refuses."""
        if self.settings is None:
            return None
        known = {f.name for f in dataclasses.fields(self.settings)}
        unknown = [name for name, _ in recipe.own if name not in known]
        if unknown:
            raise OwnModelError(
                f"{self.reference} has no setting {', '.join(unknown)}; it has {', '.join(sorted(known)) or 'none'}"
            )
        try:
            return self.settings(**dict(recipe.own))
        except Exception as error:  # whatever its __post_init__ raises
            raise OwnModelError(f"{self.reference} refuses its settings {dict(recipe.own)}: {error}") from error

    def files(self) -> list[Path]:
        """Its Python sources, in order: the file, or all of its top-level package."""
        return sorted(self.root.rglob("*.py")) if self.root.is_dir() else [self.root]

    def sha256(self) -> str:
        """Of its sources, names included."""
        found = hashlib.sha256()
        for path in self.files():
            found.update(path.relative_to(self.root.parent).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
        return found.hexdigest()

    def described(self) -> Flat:
        """What run.json holds of it."""
        rebuilt = self.kind == "fusion" or "modalities" in self.takes
        without = "built without it" if rebuilt else "its features are the training mean, in training and in test"
        return {
            "reference": self.reference,
            "kind": self.kind,
            "sha256": self.sha256(),
            "source": str(self.root),
            "without a modality": without,
        }


@functools.lru_cache(maxsize=16)
def own_model(reference: str) -> OwnModel:
    """Import `package.module:Class` and look at it; what lies in the working directory is found, too.

    Raises OwnModelError that says what stands in the way.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise OwnModelError(f"{reference!r} names no class: give package.module:Class")
    module = _imported(reference, module_name)
    cls = getattr(module, name, None)
    if not isinstance(cls, type):
        classes = [n for n, c in vars(module).items() if isinstance(c, type) and c.__module__ == module.__name__]
        raise OwnModelError(f"{module_name} has no class {name}; it has {', '.join(classes) or 'none'}")
    if not issubclass(cls, nn.Module):
        raise OwnModelError(f"{reference} is no torch.nn.Module: derive it from nn.Module (a ranker) or Fusion")
    kind: Literal["fusion", "ranker"] = "fusion" if issubclass(cls, Fusion) else "ranker"
    takes = _taken(reference, cls, kind)
    named = getattr(cls, "gives", ()) if kind == "ranker" else EVIDENCE
    if not isinstance(named, tuple | list | set | frozenset) or any(name not in EVIDENCE for name in named):
        raise OwnModelError(f"{reference}: `gives` is a tuple that may name {', '.join(EVIDENCE)}, not {named!r:.80}")
    kinds = typing.get_args(ShareKind)
    share_kind: Any = getattr(cls, "share_kind", "gradient_times_input")
    if share_kind not in kinds:
        raise OwnModelError(f"{reference}: `share_kind` must be one of {', '.join(kinds)}, not {share_kind!r}")
    space = getattr(cls, "SPACE", getattr(module, "SPACE", {}))
    if not isinstance(space, Mapping):
        raise OwnModelError(f"{reference}: SPACE is {space!r:.80}; give a dict of setting -> range, or leave it out")
    found = OwnModel(
        reference=reference,
        cls=cls,
        kind=kind,
        settings=_settings(reference, cls),
        space=dict(space),
        takes=takes,
        gives=frozenset(named),
        share_kind=share_kind,
        root=_root(module_name),
    )
    _require_scalars(found)
    return found


def _imported(reference: str, module_name: str) -> Any:
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.startswith(error.name):
            raise OwnModelError(
                f"{reference} cannot be imported: no module {error.name!r} on the path. Start in the folder that holds "
                "it, install it, or name that folder in PYTHONPATH"
            ) from error
        raise OwnModelError(f"{reference} cannot be imported: it needs {error.name!r}, which is not here") from error
    except Exception as error:
        raise OwnModelError(f"{reference} cannot be imported: {type(error).__name__}: {error}") from error


def _taken(reference: str, cls: type, kind: str) -> frozenset[str]:
    """What the constructor names. Raises OwnModelError where it needs what nobody gives."""
    given = ("config", "owner", "settings") if kind == "fusion" else RANKER_TAKES
    named = inspect.signature(cls).parameters.values()
    fixed = [p for p in named if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    odd = [p.name for p in fixed if p.name not in given and p.default is p.empty]
    if odd:
        raise OwnModelError(
            f"{reference}: its constructor asks for {', '.join(odd)}; it may ask for {', '.join(given)} by name, and "
            "all else needs a default"
        )
    return frozenset(p.name for p in fixed if p.name in given)


def _settings(reference: str, cls: type) -> type[Any] | None:
    if "settings" not in inspect.signature(cls).parameters:
        return None
    try:
        found = inspect.signature(cls, eval_str=True).parameters["settings"].annotation
    except NameError as error:
        raise OwnModelError(f"{reference}: the annotations of its constructor cannot be read ({error})") from error
    if not isinstance(found, type) or not dataclasses.is_dataclass(found):
        raise OwnModelError(f"{reference}: annotate its constructor's `settings` with a frozen dataclass")
    if not found.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise OwnModelError(f"{reference}: {found.__name__} must be frozen: @dataclass(frozen=True)")
    return found


def _require_scalars(found: OwnModel) -> None:
    for name, value in found.defaults().items():
        if not isinstance(value, SCALARS):
            raise OwnModelError(
                f"{found.reference}: setting {name} is {value!r}; a setting is a number, a text, or True or False"
            )


def _root(module_name: str) -> Path:
    top = importlib.import_module(module_name.partition(".")[0])
    folders = list(getattr(top, "__path__", ()))
    return Path(folders[0] if folders else str(top.__file__)).resolve()
