"""Business facts: what no measurement can know, from a small TOML file that people fill in."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The roadmap's conditions for resuming V2 that people answer; None: not answered, which is never a pass."""

    v1_stable: bool | None = None
    """V1 has run in production without an open incident for the time that your team asks for."""
    resources: bool | None = None
    """People and machines for V2's next phase are granted."""
    integration_path: bool | None = None
    """The way from this model to production (features, serving, owner) is agreed."""
    diverse_queries: bool | None = None
    """The judged queries stand for production's: heads and tails, every subdomain."""
    candidate_quality: bool | None = None
    """Where the candidate lists come from, and how good they are, is stated and accepted."""

    def statuses(self) -> dict[str, str]:
        """Fact -> `pass`, `fail` or `not measured`."""
        said = {True: "pass", False: "fail", None: "not measured"}
        return {field.name: said[getattr(self, field.name)] for field in fields(self)}


def read_facts(path: str | None) -> Facts:
    """The facts of a TOML file; all unanswered without one.

    Raises ValueError for a file that cannot be read, an unknown key (naming the known ones) or a value that is not
    true or false.
    """
    if path is None:
        return Facts()
    known = [field.name for field in fields(Facts)]
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"--facts {path} cannot be read: {error}") from error
    for key, value in found.items():
        if key not in known:
            raise ValueError(f"--facts {path}: unknown fact {key!r}; known facts: {', '.join(known)}")
        if not isinstance(value, bool):
            raise ValueError(f"--facts {path}: {key} must be true or false, got {value!r}")
    return Facts(**found)
