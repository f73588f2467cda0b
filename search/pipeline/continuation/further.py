"""A further verdict of a finished run: taken from something new, given up before its look, or taken already."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence

from rich.console import Console

from fusion_models.files import write_whole
from search.pipeline.confirmation.finalist import Finalist, read_finalist
from search.pipeline.context import Run
from search.pipeline.continuation.kept import EXTEND, JUDGED_TRIALS, KEPT, UNDER_WAY, Begun, standing_verdict
from search.reporting import build_report
from search.run_store.folder import RunFolder, read_json
from search.run_store.mirror import Mirror, mirrored

LOOKED = "looked"
"""Of the verdict under way, in run.json: its look is counted, or about to be."""


class NothingNewError(Exception):
    """A further verdict would be taken from the very trainings of the one that stands, and still cost a look."""


def require_something_new(run: Run, finalist: Finalist, trainings: Sequence[str], *, finished: int, why: str) -> None:
    """Raises NothingNewError where the verdict that stands had this finalist and all of these trainings.

    `trainings`: ids of all that the verdict reads; `finished`: how many of them decide, for a verdict of before, which
    names none. `why` no arm got more. A verdict whose look is counted already is taken.
    """
    if run.verdict == 1 or ((run.folder.read() or {}).get(UNDER_WAY) or {}).get(LOOKED):
        return
    before = RunFolder(run.folder.verdicts / str(standing_verdict(run.folder)))
    was, judged = read_finalist(before), before.path / "judged.json"
    if was is None or not judged.exists() or (was.trial_id, was.arms) != (finalist.trial_id, finalist.arms):
        return
    named = read_json(before.path / "decision.json").get("trainings")
    more = set(trainings) - set(named) if named is not None else finished > int(read_json(judged)["trainings"][0])
    if not more:
        raise NothingNewError(f"the finalist is {finalist.trial_id} as before, and no training was added: {why}")


def note_look(run: Run) -> None:
    """Write into run.json, before the look of a further verdict is counted, that it cannot be given up any more."""
    described = run.folder.read() or {}
    if UNDER_WAY in described:
        run.folder.write(described | {UNDER_WAY: described[UNDER_WAY] | {LOOKED: True}})


def give_up(folder: RunFolder, *, trials: int | None = None) -> None:
    """End the verdict under way without one, unless its look is counted: what stood before it stands as it was.

    What was trained for it stays. `trials`: of the search that the standing verdict had, where this one extended it: it
    may be extended again.
    """
    described = folder.read() or {}
    further = described.pop(UNDER_WAY, None)
    if further is None or further.get(LOOKED):
        return
    standing = folder.verdicts / str(standing_verdict(folder))
    for name in KEPT:
        if (standing / name).exists():
            write_whole(folder.path / name, (standing / name).read_bytes())
        else:
            (folder.path / name).unlink(missing_ok=True)
    if further["by"] == EXTEND:
        described.pop(JUDGED_TRIALS, None)
    folder.write(described | ({JUDGED_TRIALS: trials} if trials is not None else {}))
    aside = folder.path / f".verdict-{standing.name}.deleting"  # whoever reads verdicts finds whole ones alone
    shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(OSError):
        standing.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def mirrored_once_begun(
    folder: RunFolder, begun: Begun, mirror: Mirror | None, console: Console, *, trials: int | None = None
) -> Iterator[None]:
    """As `mirrored`; a store that fails before anything is trained leaves no verdict that was begun here."""
    with contextlib.ExitStack() as leaving:
        try:
            leaving.enter_context(mirrored(mirror, console))
        except BaseException:
            if not begun.resumed:
                give_up(folder, trials=trials)
            raise
        yield


def nothing_new(run: Run, error: NothingNewError) -> None:
    """Say that no further verdict was taken, and why."""
    give_up(run.folder)
    run.trainer.tracking.end()
    said = f"{run.folder.path}: {error}. Verdict {run.verdict - 1} stands, and no look was taken"
    if run.options.facts != ((run.folder.read() or {}).get("options") or {}).get("facts"):
        said += ". Other --facts alone take none: give them to a run of another --name"
    run.console.print(said, highlight=False, soft_wrap=True)


def taken_already(folder: RunFolder, by: str, console: Console, mirror: Mirror | None) -> bool:
    """Make up for a report that was not written, and files that were not sent, when the last command here ended.

    Whether that was a command of this kind (`by`, a flag): then it is repeated for this, not for one more verdict.
    """
    described = folder.read() or {}
    due, sent = folder.report_due(), mirror is None or not mirror.behind()
    if UNDER_WAY in described or (sent and not due):
        return False
    if due:
        build_report(folder, console)
    if mirror is not None:
        mirror.sync(whole=True)
    last = (described.get("verdicts") or [{}])[-1]
    if last.get("by") != by or folder.report_due():
        return False
    console.print(
        f"{folder.path}: verdict {last['number']} had been taken by {by}; its report or its files at --results were "
        "not there yet, and are now. The same command again takes a further verdict",
        highlight=False,
        soft_wrap=True,
    )
    return True
