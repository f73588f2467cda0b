"""Late steps that explain, and decide nothing: one that fails costs itself, never a run that has trained and looked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from fusion_models.work.foreign import first_line


@contextlib.contextmanager
def costs_itself(
    console: Console,
    what: str,
    then: str = "the verdict does not rest on it",
    *,
    files: Sequence[Path] = (),
    ends_run: Callable[[Exception], bool] = lambda error: False,
) -> Iterator[None]:
    """Inside, what is raised ends the block alone, and is said in one line; Ctrl-C ends the run as ever.

    `what` is the step, and `then` what follows for the reader. `files` of an earlier verdict, which the step would have
    written anew, go. What `ends_run` knows is raised after all, such as a machine that was lost under trainings.
    """
    try:
        yield
    except Exception as error:
        if ends_run(error):
            raise
        for path in files:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        said = f"{what} failed ({type(error).__name__}: {first_line(error)}); {then}"
        console.print(said, style="yellow", highlight=False, markup=False, emoji=False, soft_wrap=True)
