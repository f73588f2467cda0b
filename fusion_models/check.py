"""Check a module of your own before it is searched: `python -m fusion_models.check package.module:Class`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from fusion_models.data.errors import DataError
from fusion_models.data.sources import open_dataset
from fusion_models.models.own import OwnModelError
from fusion_models.own.conformance import conformance, notes
from fusion_models.work.console import PlainConsole


@dataclass(frozen=True)
class Check:
    """Check a fusion or a ranker of your own: every failure is a sentence that says what to do."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PACKAGE.MODULE:CLASS")]
    """Import name of the class; the working directory is on the path."""
    data: str = "planted"
    """`clipart`, `planted`, `planted:PRESET`, or a folder (path or URI) of the three tables."""


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0, 1 where a check failed, 2 where nothing could be checked."""
    console, errors = PlainConsole(highlight=False), PlainConsole(stderr=True)  # before tyro, which prints help
    asked = tyro.cli(Check, prog="python -m fusion_models.check", args=arguments)
    try:
        data = open_dataset(asked.data)
        failed = 0
        for finding in conformance(asked.model, data):
            console.print(f"{'ok' if finding.passed else 'FAILED':<7}{finding.name}")
            for failure in finding.failures:
                console.print(f"       {failure}")
            failed += not finding.passed
        if not failed:
            for note in notes(asked.model, data):
                console.print(f"note   {note}")
    except (DataError, OwnModelError) as error:
        errors.print(f"error: {error}", style="red")
        return 2
    if failed:
        console.print(f"{failed} checks failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
