"""What a dataset says of itself in `dataset.toml`, beside its three tables: which of its columns are modalities, and
whose pictures and titles the items have.

Nothing is guessed: a column that is not declared is not read. Without the file the modalities are `visual`, `text` and
`metadata`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fusion_models.data.errors import DataError, foreign_errors
from fusion_models.modalities import MODALITIES, PICTURED, QUANTITIES, TITLED, require_modalities

FILE = "dataset.toml"
STAND_IN = "missing_"
"""Before a modality's name (or `features`): a column of true and false, true where the vector only stands in."""
_LISTS, _NAMES = ("modalities", "quantities"), ("pictures", "titles")
_EXAMPLE = 'modalities = ["visual", "text", "clicks"]'


@dataclass(frozen=True)
class Declaration:
    """The modalities of a dataset, in its order, and those of them whose features are separate quantities."""

    modalities: tuple[str, ...] = MODALITIES
    quantities: tuple[str, ...] = QUANTITIES
    pictures: str = PICTURED
    """The modality that the column `image` shows; the usual one may be none of the dataset's."""
    titles: str = TITLED
    """The modality that the column `title` is the text of."""

    @staticmethod
    def of(
        modalities: Sequence[str] | None,
        quantities: Sequence[str] | None = None,
        *,
        pictures: str | None = None,
        titles: str | None = None,
    ) -> Declaration:
        """What a program or a file says; None where it says nothing. Raises DataError, naming the file."""
        names = MODALITIES if modalities is None else tuple(modalities)
        if quantities is None:
            quantities = [name for name in names if name in QUANTITIES]
        try:
            require_modalities(names)
        except ValueError as error:
            raise DataError(f"{error}.", f"Name the columns that are modalities: {_EXAMPLE}.", file=FILE) from error
        said = [("quantities", name) for name in quantities]
        said += [(key, name) for key, name in (("pictures", pictures), ("titles", titles)) if name is not None]
        for key, name in said:
            if name not in names:
                remedy = f"Name some of {', '.join(names)}."
                raise DataError(f"{key} names {name!r}, which is none of the modalities.", remedy, file=FILE)
        of_them = tuple(name for name in names if name in quantities)
        return Declaration(names, of_them, pictures or PICTURED, titles or TITLED)

    @property
    def is_default(self) -> bool:
        """Whether it says what is so without it."""
        return self == Declaration()

    def to_toml(self) -> str:
        """The file's text."""
        said = f"modalities = {json.dumps(self.modalities)}\nquantities = {json.dumps(self.quantities)}\n"
        more = (("pictures", self.pictures, PICTURED), ("titles", self.titles, TITLED))
        return said + "".join(f"{key} = {json.dumps(name)}\n" for key, name, usual in more if name != usual)


def read_declaration(filesystem: Any, root: str) -> Declaration:
    """The declaration in the folder `root`, or the default one. Raises DataError for one that is not understood."""
    path = f"{root.rstrip('/')}/{FILE}"
    if not filesystem.exists(path):
        return Declaration()
    with foreign_errors("cannot be read", f"Write TOML, such as {_EXAMPLE}.", file=FILE):
        found = tomllib.loads(filesystem.cat_file(path).decode())
    for key, value in found.items():
        if key not in (*_LISTS, *_NAMES):
            raise DataError(f"the key {key!r} is unknown.", f"It may say {', '.join((*_LISTS, *_NAMES))}.", file=FILE)
        if key in _NAMES and not isinstance(value, str):
            raise DataError(f"{key} = {value!r} is not a name.", f'Write {key} = "photo".', file=FILE)
        if key in _LISTS and (not isinstance(value, list) or not all(isinstance(name, str) for name in value)):
            raise DataError(f"{key} = {value!r} is not a list of names.", f"Write {_EXAMPLE}.", file=FILE)
    one = {key: found.get(key) for key in _NAMES}
    return Declaration.of(found.get("modalities"), found.get("quantities"), **one)


def write_declaration(filesystem: Any, root: str, declared: Declaration) -> None:
    """Write `dataset.toml` into the folder, unless the declaration is the default one."""
    if not declared.is_default:
        filesystem.pipe_file(f"{root.rstrip('/')}/{FILE}", declared.to_toml().encode())
