"""A run folder kept twice: where the run writes, and at a URI that outlives the machine.

The journal is appended to and fsynced line by line, which no object store can do. So a run on a URI is written to a
local folder, and mirrored after each training that ends, in a thread of its own. What belongs together goes in an
order that a reader may meet at any moment: what trainings left, then tables, then the journal, then run.json.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from fusion_models.data.arrays.cache import cache_root
from fusion_models.data.tables import filesystem_of, local_path
from fusion_models.files import write_whole
from search.run_store.driver_lock import driven, driving
from search.run_store.folder import OF_A_RUN, delete_folder
from search.run_store.looks import LOOKS, parse_looks
from search.run_store.working_copy import LAST, Known, WorkingCopy, content_hash


class MirrorError(ValueError):
    """A URI that cannot be read or written."""


class Mirror:
    """One run folder, or a whole roadmap's, at `uri`, and its working copy at `local`."""

    def __init__(self, uri: str, local: Path) -> None:
        """Raises MirrorError where no library opens the URI."""
        self.uri = uri
        self.local = local
        self._here = WorkingCopy(local)
        with _explained(uri):
            self._filesystem, self._root = filesystem_of(uri)
        self._lock = threading.Lock()

    def fetch(self, *, to_drive: bool = False) -> bool:
        """Make the local folder what the URI holds, unless it is ahead of it; whether there was anything at the URI.

        A journal is only ever appended to: where every local one begins with the whole remote one, the folder is of the
        same run and knows more (this machine was interrupted between two mirrorings), and stays as it is. So does that
        of a run that a process of this machine drives now, unless that is who asks, before it begins (`to_drive`).
        Where the journals are equal, another machine may have ended the run: then a run.json there is another one than
        this copy has sent.
        """
        with _explained(self.uri):
            self._filesystem.invalidate_cache()
            remote = self._listing()
            self._fetch_looks()
            if not to_drive and driven(self.local):
                return bool(remote) or (self.local / LAST[1]).exists()
            if not remote:  # the store is the truth: what lies here is of a run that somebody has deleted there
                delete_folder(self.local)
                return False
            if not self._local_is_ahead(remote):
                delete_folder(self.local)
                for name in sorted(remote, key=_order):
                    self._get(name)
                last = self._here.last()
                known = Known(files=self._here.files(whole=True) | {name: status for name, (status, _) in last.items()})
                known.described = {
                    name: content_hash(said) for name, (_, said) in last.items() if name.endswith(LAST[1])
                }
                self._here.note(known)
            return True

    def erase(self) -> None:
        """Delete the run at the URI, and the working copy; the looks at the test split stay.

        Raises MirrorError where what lies there is no run, such as a folder of runs.
        """
        with _explained(self.uri), self._lock:
            self._filesystem.invalidate_cache()
            remote = self._listing()
            if remote and not {name.partition("/")[0] for name in remote} & OF_A_RUN:
                raise MirrorError(
                    f"{self.uri} holds no run (there is {min(remote)}), so --fresh does not delete it: give another "
                    "--name"
                )
            # run.json first: half a run is none; a journal last, by which --fresh knows what is left for it
            for name in sorted(remote, key=lambda n: (not n.endswith(LAST[1]), n.endswith(LAST[0]), n)):
                self._filesystem.rm_file(self._path(name))
            delete_folder(self.local)

    def sync(self, *, whole: bool = False) -> int:
        """Send what has changed since the last time and delete what is gone; returns how many files went.

        `whole`: nothing trains now, so that the checkpoints of interrupted trainings are sent as well; while one is
        being written, its two files could come from two epochs. Raises MirrorError where the URI cannot be written.
        """
        with _explained(self.uri), self._lock:
            known = self._here.known()
            try:
                return self._send(known, whole=whole)
            finally:  # what has gone is known, even where the rest could not go
                self._here.note(known)

    def _send(self, known: Known, *, whole: bool) -> int:
        last = self._here.last()  # before the listing, so that all that they speak of is in it
        files = self._here.files(whole=whole) | {name: status for name, (status, _) in last.items()}
        changed = [name for name in files if known.files.get(name) != files[name]]
        for name in sorted(changed, key=_order):
            if name in last:
                content = last[name][1]
                self._write(name, content)
                if name.endswith(LAST[1]):
                    known.described[name] = content_hash(content)
            else:
                self._put(name)
            known.files[name] = files[name]
        for name in [name for name in known.files if not (self.local / name).exists()]:
            with contextlib.suppress(FileNotFoundError):
                self._filesystem.rm_file(self._path(name))
            del known.files[name]
            known.described.pop(name, None)
        self._put_looks()
        return len(changed)

    def behind(self) -> bool:
        """Whether a file of the local folder was not sent as it is now, or one that was sent is gone.

        A journal that has merely grown tells nothing: whoever opens a stage writes a line, and changes no verdict.
        """
        known, files = self._here.known().files, self._here.files(whole=True)
        files |= {name: status for name, (status, _) in self._here.last().items()}
        journals = {name for name in known.keys() & files.keys() if name.endswith(LAST[0])}
        return any(known.get(name) != files.get(name) for name in (known.keys() | files.keys()) - journals)

    def _put(self, name: str) -> None:
        path = self.local / name
        with contextlib.suppress(FileNotFoundError):
            if "checkpoints" in path.parts:
                with path.open("rb") as source, self._filesystem.open(self._made(name), "wb") as target:
                    shutil.copyfileobj(source, target, 8 * 1024**2)
            else:
                self._write(name, path.read_bytes())

    def _write(self, name: str, content: bytes) -> None:
        with self._filesystem.open(self._made(name), "wb") as target:
            target.write(content)

    def _get(self, name: str) -> None:
        target = self.local / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._filesystem.open(self._path(name), "rb") as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 8 * 1024**2)

    def _local_is_ahead(self, remote: dict[str, int]) -> bool:
        """Whether the local folder is of the run at the URI, and knows all that its journals there say.

        A roadmap has a journal a phase. Before there is any, the start of the run tells.
        """
        last = [name for name in remote if name.rpartition("/")[2] in LAST]
        journals = [name for name in last if name.endswith(LAST[0])]
        if not all((self.local / name).exists() for name in last):  # one of another machine, or a fetch cut off
            return False
        if not all(self._goes_on(name, remote[name]) for name in journals):
            return False
        if self._knows_as_much(journals, remote) and self._described_elsewhere(last):
            return False
        return any(remote[name] for name in journals) or self._began_together(remote)

    def _goes_on(self, journal: str, size: int) -> bool:
        """Whether the local journal begins with the whole of the one at the URI, of `size` bytes."""
        mine = self.local / journal
        if mine.stat().st_size < size:
            return False
        with self._filesystem.open(self._path(journal), "rb") as theirs, mine.open("rb") as file:
            content: bytes = theirs.read()
            return file.read(len(content)) == content

    def _knows_as_much(self, journals: list[str], remote: dict[str, int]) -> bool:
        """Whether the journals here say no more than those at the URI."""
        mine = {name: len(said) for name, (_, said) in self._here.last().items() if name.endswith(LAST[0])}
        return mine == {name: remote[name] for name in journals}

    def _described_elsewhere(self, last: list[str]) -> bool:
        """Whether a run.json at the URI is neither what this copy last sent or fetched, nor what lies here.

        The end of a run writes no line into its journal.
        """
        known = self._here.known().described
        for name in [name for name in last if name in known]:
            with self._filesystem.open(self._path(name), "rb") as file:
                theirs = file.read()
            if content_hash(theirs) != known[name] and theirs != (self.local / name).read_bytes():
                return True
        return False

    def _began_together(self, remote: dict[str, int]) -> bool:
        name = LAST[1]
        if name not in remote:
            return False
        with self._filesystem.open(self._path(name), "rb") as file, contextlib.suppress(ValueError, AttributeError):
            theirs, mine = (json.loads(text).get("start") for text in (file.read(), (self.local / name).read_bytes()))
            return theirs is not None and theirs == mine
        return False

    def _listing(self) -> dict[str, int]:
        """Path below the run folder -> bytes of every file at the URI."""
        try:
            found: dict[str, Any] = self._filesystem.find(self._root, detail=True)
        except FileNotFoundError:
            return {}
        start = len(self._root.rstrip("/")) + 1
        below = {path[start:]: int(info.get("size") or 0) for path, info in found.items()}
        return {name: size for name, size in below.items() if name and not name.endswith("/")}

    def _fetch_looks(self) -> None:
        """The looks at the test split lie beside the run folders: those noted here or there are all kept."""
        path = self._beside(LOOKS)
        if self._filesystem.exists(path):
            with self._filesystem.open(path, "rb") as file:
                theirs = parse_looks(file.read(), f"{self.uri.rpartition('/')[0]}/{LOOKS}")
            for data, looks in self._looks().items():
                kept = theirs.setdefault(data, [])
                kept += [look for look in looks if look not in kept]
            self.local.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.local.parent / LOOKS, json.dumps(theirs, indent=1) + "\n")

    def _put_looks(self) -> None:
        if (self.local.parent / LOOKS).exists():
            self._fetch_looks()
            with self._filesystem.open(self._beside(LOOKS), "wb") as target:
                target.write((self.local.parent / LOOKS).read_bytes())

    def _looks(self) -> dict[str, list[dict[str, str]]]:
        path = self.local.parent / LOOKS
        return parse_looks(path.read_bytes(), str(path)) if path.exists() else {}

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _beside(self, name: str) -> str:
        return f"{self._root.rstrip('/').rpartition('/')[0]}/{name}"

    def _made(self, name: str) -> str:
        """The path of a file at the URI, in a folder that exists where folders are real."""
        path = self._path(name)
        self._filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        return path


@contextlib.contextmanager
def mirrored(mirror: Mirror | None, console: Console) -> Iterator[None]:
    """Mirror the run folder when the block begins, and in full when it ends, however it ends.

    So a store that cannot be written is an error before the first training. Meanwhile nobody who reads the URI on this
    machine replaces the folder. Raises MirrorError where the last
    mirroring fails, unless something else is wrong already.
    """
    if mirror is None:
        yield
        return
    with driving(mirror.local):
        mirror.sync()
        try:
            yield
        except BaseException:
            with contextlib.suppress(MirrorError):
                mirror.sync(whole=True)
            raise
        try:
            mirror.sync(whole=True)
        except MirrorError as error:
            said = f"{error}. The whole run lies in {mirror.local}; the same command sends it again"
            raise MirrorError(said) from error
    console.print(f"mirrored to {mirror.uri}", highlight=False, soft_wrap=True)


def is_uri(results: str) -> bool:
    """Whether `--results` names a store rather than a folder of this machine (NFS included)."""
    return "://" in results and not results.startswith("file://")


def local_results(results: str) -> Path:
    """The folder that holds the run folders: as given, or for a URI its working copy in the cache folder."""
    if is_uri(results):
        key = hashlib.sha256(results.rstrip("/").encode()).hexdigest()[:16]
        return cache_root() / "runs" / key
    return local_path(results.removeprefix("file://")).resolve()


def mirror_of(results: str, name: str) -> Mirror:
    """The mirror of run `name` below a URI. Raises MirrorError where no library opens it."""
    return Mirror(f"{results.rstrip('/')}/{name}", local_results(results) / name)


def located(location: str) -> tuple[Path, Mirror | None]:
    """For whoever reads a run at a path or URI: its local folder, fetched where it is a URI, and then its mirror.

    Raises MirrorError where there is no run at the URI.
    """
    if not is_uri(location):
        return local_path(location.removeprefix("file://")).resolve(), None
    results, _, name = location.rstrip("/").rpartition("/")
    mirror = mirror_of(results, name)
    if not mirror.fetch():
        raise MirrorError(f"no run at {location}")
    return mirror.local, mirror


def _order(name: str) -> tuple[int, str]:
    parts = name.split("/")
    if parts[-1] in LAST:
        return 2 + LAST.index(parts[-1]), name
    return int("checkpoints" not in parts), name


@contextlib.contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Whatever a store's library raises, as one error that names the URI and says what to look at."""
    try:
        yield
    except MirrorError:
        raise
    except Exception as error:
        raise MirrorError(
            f"cannot use {uri} ({type(error).__name__}: {error}): look at the bucket's name, at this machine's "
            "credentials and network, and whether the library for this kind of store is installed"
        ) from error
