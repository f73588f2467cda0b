"""From what a user types after `--data` to an open dataset."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fusion_models.data.arrays.build import FORMAT, write_arrays
from fusion_models.data.arrays.cache import build_once, cache_root, fingerprint
from fusion_models.data.dataset import RankingDataset
from fusion_models.data.errors import DataError
from fusion_models.data.in_memory import kept_tables
from fusion_models.data.planted import GENERATOR, write_planted
from fusion_models.data.planted.presets import planted_config
from fusion_models.data.tables import Declaration, TableFolder, filesystem_of, local_path, locate
from fusion_models.data.tables.declaration import read_declaration

CLIPART = Path(__file__).parent / "clipart"
HALVED = "#halved"
"""After a source: validation is the search's half alone, and the other half is the split `deciding`."""


def open_dataset(  # noqa: PLR0913  (a door for users: a source, or tables by their names)
    source: str | Path | None = None,
    cache: str | Path | None = None,
    *,
    items: Any = None,
    queries: Any = None,
    judgements: Any = None,
    modalities: Sequence[str] | None = None,
    quantities: Sequence[str] | None = None,
) -> RankingDataset:
    """Open a dataset, checked; its arrays are built in the cache folder the first time on this node.

    Either a `source` or the three tables: pandas or polars frames, Arrow tables, or a path, URI or glob each. A copy of
    these is kept in the cache folder, whose path is then the dataset's source. Of such tables `modalities` names the
    columns that are modalities, and `quantities` those of them whose features are separate quantities, no embedding; a
    folder says so itself (see `tables.declaration`).

    `source`: `clipart`, `planted`, `planted:PRESET`, `planted:PRESET?dial=value&...`, or the path or URI of a folder
    of three tables (a folder called `planted` is `./planted`); any of them with `#halved` behind it: see
    `RankingDataset.halved`. `cache`: see `cache_root`.

    Raises:
        DataError: the tables break the contract, or there are none.
    """
    root = cache_root(cache)
    given = {"items": items, "queries": queries, "judgements": judgements}
    if all(table is None for table in given.values()):
        if modalities is not None or quantities is not None:
            raise DataError(
                "modalities= is given beside a source.", "A folder names its own in dataset.toml.", file="dataset.toml"
            )
        if source is None:
            raise DataError("no dataset is named.", "Give a source, or items=, queries= and judgements=.")
        name = _absolute(str(source))
    elif source is not None:
        raise DataError("both a source and tables are given.", "Give a source, or items=, queries= and judgements=.")
    else:
        name = str(kept_tables(given, root, Declaration.of(modalities, quantities)).absolute())
    tables = locate(_location(name.removesuffix(HALVED), root))
    identity = fingerprint(tables, root)
    folder = build_once(root / "arrays" / f"{identity}-v{FORMAT}", partial(write_arrays, tables))
    data = RankingDataset(folder, source=name, location=tables.location, fingerprint=identity)
    return data.halved() if name.endswith(HALVED) else data


def fingerprint_of(source: str | Path, cache: str | Path | None = None) -> str:
    """The fingerprint of a `source` (see `open_dataset`), whose arrays are not built for it. Raises DataError."""
    root = cache_root(cache)
    return fingerprint(locate(_location(_absolute(str(source)).removesuffix(HALVED), root)), root)


def located(source: str | Path, cache: str | Path | None = None) -> TableFolder:
    """The three tables of a `source` (see `open_dataset`), found and not yet read. Raises DataError."""
    return locate(_location(_absolute(str(source)), cache_root(cache)))


def declared_modalities(source: str) -> tuple[str, ...]:
    """The modalities that a source declares, without opening its tables; the default ones where nothing is there.

    Raises DataError for a declaration, or planted dials, that cannot be.
    """
    name = source.removesuffix(HALVED)
    if _is_planted(name):
        return planted_config(name).modalities
    if name == "clipart":
        return Declaration().modalities
    filesystem, root = filesystem_of(name)
    return read_declaration(filesystem, root).modalities


def open_copy(
    source: str, identity: str, fetch: Callable[[Path], None], cache: str | Path | None = None
) -> RankingDataset:
    """Open a dataset whose arrays another machine has built: `fetch(empty folder)` brings them, once on this node.

    `source` is what the other machine opened, `identity` the fingerprint it found.
    """
    folder = build_once(cache_root(cache) / "arrays" / f"{identity}-v{FORMAT}", fetch)
    data = RankingDataset(folder, source=source, location=source.removesuffix(HALVED), fingerprint=identity)
    return data.halved() if source.endswith(HALVED) else data


def _is_planted(name: str) -> bool:
    return name == "planted" or name.startswith(("planted:", "planted?"))


def _absolute(name: str) -> str:
    """A local path as any process finds it, whatever its own folder is: a worker's is not the user's."""
    bundled = name.removesuffix(HALVED) == "clipart" or _is_planted(name.removesuffix(HALVED))
    return name if bundled or "://" in name else str(local_path(name).absolute())


def _location(name: str, root: Path) -> str:
    if name == "clipart":
        if not (CLIPART / "items.parquet").exists():
            raise DataError(
                f"the bundled dataset `clipart` is not in {CLIPART}.",
                "Install the package with its data, or build it with `python -m fusion_models.data.clipart_build`.",
            )
        return str(CLIPART)
    if _is_planted(name):
        config = planted_config(name)
        dials = json.dumps([GENERATOR, dataclasses.asdict(config)], sort_keys=True)
        key = hashlib.sha256(dials.encode()).hexdigest()[:16]
        return str(build_once(root / "planted" / key, partial(write_planted, config)))
    return name
