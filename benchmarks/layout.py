"""The layout of the house with counts: `python benchmarks/layout.py` prints docs/decisions/028's tables.

Modules a folder; of the imports between modules, how many stay inside a package and how many cross to another one, and
whether any goes upward. The order of the packages is read from pyproject.toml, where import-linter holds it.
"""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOUSE = ("search", "spaces", "fusion_models")
"""Highest first."""
Edge = tuple[str, str]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Dotted name -> file, of every module of the house; a package goes by its own name."""
    found = {}
    for path in sorted(p for top in HOUSE for p in (root / top).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: Sequence[str]) -> Iterator[str]:
    """Modules of the house that a file imports, anywhere in it; absolute imports alone, as the house has them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in known or node.module in known:
                    yield whole if whole in known else node.module


def edges(root: Path = ROOT) -> set[Edge]:
    """Who imports whom, once a pair of modules."""
    found = modules(root)
    known = list(found)
    return {(name, other) for name, path in found.items() for other in imports(path, known) if other != name}


def package(module: str, found: dict[str, Path]) -> str:
    """The package of `search` or the top package that a module belongs to: its room."""
    top, *rest = module.split(".")
    if top == "search" and rest and found[".".join((top, rest[0]))].name == "__init__.py":
        return f"{top}.{rest[0]}"
    return top


def ranks(root: Path = ROOT) -> dict[str, int]:
    """Layer of each room, 0 the highest, as import-linter's contract has them; entry modules of `search` are above."""
    said = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (c["layers"] for c in said if c.get("containers") == ["search"])
    rank = {"search": -1}
    for place, layer in enumerate(layers):
        rank |= {f"search.{name.strip()}": place for name in layer.split("|")}
    return rank | {"spaces": len(layers), "fusion_models": len(layers) + 1}


def upward(root: Path = ROOT) -> list[Edge]:
    """Imports from a lower room to a higher one; options and entry modules count by their own layer."""
    found, rank = modules(root), ranks(root)

    def place(module: str) -> int:
        own = ".".join(module.split(".")[:2])
        return rank.get(own, rank[package(module, found)])

    return sorted(edge for edge in edges(root) if place(edge[0]) > place(edge[1]) >= 0)


def main() -> None:
    """Print both tables."""
    found, every = modules(), edges()
    inside, out, into = Counter[str](), Counter[str](), Counter[str]()
    for one, other in every:
        here, there = package(one, found), package(other, found)
        if here == there:
            inside[here] += 1
        else:
            out[here] += 1
            into[there] += 1
    folders = Counter(str(path.parent.relative_to(ROOT)) for path in found.values() if path.name != "__init__.py")
    print("| folder | modules |\n|---|---|")
    for folder, count in sorted(folders.items()):
        print(f"| `{folder}/` | {count} |")
    print("\n| package | imports inside | to others | from others |\n|---|---|---|---|")
    for room in sorted({package(name, found) for name in found}, key=lambda room: (ranks().get(room, 0), room)):
        print(f"| `{room}` | {inside[room]} | {out[room]} | {into[room]} |")
    across = len(every) - sum(inside.values())
    print(f"\n{sum(folders.values())} modules, {len(every)} imports between them: {sum(inside.values())} inside a")
    print(f"package, {across} across, {len(upward())} upward.")


if __name__ == "__main__":
    main()
