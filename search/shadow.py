"""V2 in the shadow of V1: `python -m search.shadow serve|replay|monitor`. Needs the extra `serve` (ray[serve])."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from fusion_models.data import RankingDataset, open_dataset
from fusion_models.files import write_whole
from fusion_models.metrics.ranking_metric import NDCG_10, RankingMetric
from fusion_models.models import Ranker
from fusion_models.work.foreign import first_line
from search.reporting.terminal import make_console
from search.run_store.artefact import ARTEFACT, releasing
from search.run_store.artifacts import WEIGHTS, load_ranker, require_same_source, run_of, weights_files, weights_sha256
from search.run_store.folder import RunFolder, RunFolderError, json_text, phase_of


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Answer POST /rank with V1's order, and score V2 behind it."""

    run: tyro.conf.Positional[Path | None] = None
    """A run folder, such as results/phase3: its finalist is V2, its data the items."""
    checkpoint: Path | None = None
    """Folder of weights (one training's, or an ensemble's) and recipe.json, instead of a run's finalist."""
    data: str | None = None
    """The dataset that holds the items; the run's unless given."""
    v2: bool = True
    """--no-v2: log V1's decisions alone."""
    log: Path = Path("shadow-log")
    """Folder of the decisions."""
    host: str = "127.0.0.1"
    """Address to listen on; loopback unless given. There is no authentication: put a gateway in front."""
    port: int = 8000
    """Port to listen on."""
    queue: int = 256
    """Requests that may wait for V2; what comes beyond is shed."""
    timeout: float = 1.0
    """Seconds that V2 may take for a batch."""
    rows: int = 10_000
    """Decisions of one Parquet file at the most."""
    seconds: float = 60.0
    """Age at which a file is written."""
    replicas: int = 1
    """Answering processes."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Score a log's requests again, offline, and write a log of the same schema."""

    log: tyro.conf.Positional[Path]
    """The log."""
    checkpoint: Path | None = None
    """Another V2; the log's own unless given."""
    data: str | None = None
    """Another dataset; the log's own unless given."""
    out: Path | None = None
    """Folder of the new log; LOG/replay unless given."""


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """Say what a log tells: agreement, drift, latency, the A/B framework's input."""

    log: tyro.conf.Positional[Path]
    """The log."""
    data: str | None = None
    """Another dataset; the log's own unless given."""
    salt: str = "fusion-v2"
    """Of the experiment that the units are bucketed for."""


Command = (
    Annotated[Serve, tyro.conf.subcommand("serve")]
    | Annotated[Replay, tyro.conf.subcommand("replay")]
    | Annotated[Monitor, tyro.conf.subcommand("monitor")]
)


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0, 2 for a mistake in what was asked, 130 after Ctrl-C."""
    console, _ = make_console(), make_console(stderr=True)  # before tyro, which prints help in any encoding
    command: Serve | Replay | Monitor = tyro.cli(
        Command, prog="python -m search.shadow", description=__doc__, args=arguments
    )
    try:
        match command:
            case Serve():
                _serve(command, console)
            case Replay():
                _replay(command, console)
            case Monitor():
                _monitor(command, console)
    except ValueError as error:
        _complain(str(error))
        return 2
    except OSError as error:
        _complain(f"cannot use {error.filename} ({error.strerror})" if error.filename else first_line(error))
        return 2
    except ImportError as error:
        _complain(f"{error}. Serving needs more packages: pip install 'fusion-search[serve]'")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _complain(what: str) -> None:
    make_console(stderr=True).print(f"error: {what}", style="red", markup=False, highlight=False, soft_wrap=True)


def finalist_checkpoint(run: Path) -> Path:
    """The weights that stand for a run: its artefact, the trainings of the finalist whose mean was judged.

    Raises ValueError where the run has none.
    """
    place = RunFolder(releasing(run)).checkpoints / ARTEFACT
    if weights_files(place):
        return place
    raise ValueError(f"{run} has no finalist with weights: finish the run, or name a folder with --checkpoint")


def _source(run: Path | None, given: str | None) -> str:
    if given is not None:
        return given
    if run is None:
        raise ValueError("name a run folder, or a dataset with --data")
    said = RunFolder(run).read()
    if said is None:
        raise ValueError(f"{run} is no run folder: it has no run.json")
    if "data" not in said:  # a roadmap's phases have theirs
        said = RunFolder(releasing(run)).read() or {}
    if "data" not in said:
        raise ValueError(f"{run}/run.json names no data: give --data")
    return str(said["data"])


def _serve(command: Serve, console: Console) -> None:
    checkpoint, run = command.checkpoint, command.run
    if checkpoint is None and command.v2:
        if run is None:
            raise ValueError("name a run folder, or weights with --checkpoint, or say --no-v2")
        run = releasing(run)
        checkpoint = finalist_checkpoint(run)
    checkpoint = checkpoint if command.v2 else None
    data = _data_of_run(run, command.data, trained=checkpoint is not None and command.checkpoint is None)
    data = data.measured_by(_metric(run, checkpoint))

    from ray import serve  # an extra: what was asked is checked before

    from search.serving.app import ShadowLimits, application
    from search.serving.reference import require_log_of, training_reference, write_reference
    from search.serving.session import require_free, serving

    if checkpoint is not None:
        _require_weights(checkpoint)
    require_log_of(command.log, data, checkpoint)
    require_free(command.host, command.port)
    model = None if checkpoint is None else _load(checkpoint, data)
    write_reference(command.log, data, checkpoint, training_reference(data, model))
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with serving(host=command.host, port=command.port):
        app = application(
            source=data.source,
            log=command.log,
            checkpoint=checkpoint,
            limits=ShadowLimits(
                queue=command.queue, timeout=command.timeout, rows=command.rows, seconds=command.seconds
            ),
            replicas=command.replicas,
        )
        serve.run(app, name="shadow", route_prefix="/")
        where = f"http://{command.host}:{command.port}"
        said = "without V2" if checkpoint is None else f"V2 from {checkpoint}"
        console.print(
            f"answering POST {where}/rank, {said}; log in {command.log}; Ctrl-C ends it", highlight=False, markup=False
        )
        over.wait()
    from search.serving.journal import archive

    archive(command.log)
    console.print(f"ended; the log is whole in {command.log}", highlight=False, markup=False)


def _replay(command: Replay, console: Console) -> None:
    from search.serving.journal import read_decisions
    from search.serving.reference import read_description, training_reference, write_reference
    from search.serving.replay import replay
    from search.serving.request import Catalogue

    said = read_description(command.log)
    named = command.checkpoint or (Path(said["checkpoint"]) if said["checkpoint"] else None)
    if named is None:
        raise ValueError(f"{command.log} was logged without V2: name one with --checkpoint")
    if command.checkpoint is None:
        _require_weights(named)
        if said.get("weights", weights_sha256(named)) != weights_sha256(named):  # older logs do not say
            raise ValueError(
                f"{named} holds other weights than {command.log} was logged with: name V2 with --checkpoint"
            )
    data = _data_of_log(command.log, said, command.data)
    model = _load(named, data)
    out = command.out or command.log / "replay"
    table = replay(read_decisions(command.log), model, Catalogue(data), out)
    write_reference(out, data, named, training_reference(data, model))
    console.print(f"{len(table)} decisions scored again in {out}", highlight=False, markup=False)


def _monitor(command: Monitor, console: Console) -> None:
    from search.serving.journal import read_decisions
    from search.serving.monitor import monitor
    from search.serving.reference import read_description, read_reference
    from search.serving.request import Catalogue

    said = read_description(command.log)
    table = read_decisions(command.log)
    data = _data_of_log(command.log, said, command.data)
    report, units = monitor(table, Catalogue(data), read_reference(command.log), salt=command.salt)
    report["same_data"] = data.fingerprint == said["fingerprint"]
    write_whole(command.log / "monitor.json", json_text(report))
    units.to_parquet(command.log / "units.parquet", index=False)
    console.print(json_text(report), highlight=False, markup=False)
    console.print(f"written: {command.log / 'monitor.json'} and units.parquet", highlight=False, markup=False)


def _data_of_log(log: Path, said: Mapping[str, Any], given: str | None) -> RankingDataset:
    """The log's dataset, or the one given in its place, with the log's metric.

    Raises ValueError where the log's own was changed since.
    """
    from search.serving.reference import metric_of_log

    data = open_dataset(given or said["data"])
    if given is None and data.fingerprint != said["fingerprint"]:
        raise ValueError(
            f"{data.source} holds other data than when {log} was logged: give --data {data.source} to read the log "
            "against what is there now (what does not fit is left out), or bring the data of then back"
        )
    return data.measured_by(metric_of_log(said))


def _metric(run: Path | None, checkpoint: Path | None) -> RankingMetric:
    """What the run is judged by, or else the run that the weights lie in, or a roadmap's phase; nDCG@10 without any."""
    said = {} if run is None else RunFolder(run).read() or {}
    if "definition" not in said and checkpoint is not None:
        with contextlib.suppress(RunFolderError):  # of an older version: its weights are good for all that
            lies_in = run_of(checkpoint)
            said = {} if lies_in is None else RunFolder(lies_in).read() or {}
    if "definition" not in said and run is not None:
        with contextlib.suppress(RunFolderError):
            said = RunFolder(releasing(run)).read() or {}
    return phase_of(said).metric if "definition" in said else NDCG_10


def _data_of_run(run: Path | None, given: str | None, *, trained: bool) -> RankingDataset:
    """The dataset to answer from. `trained`: V2 is the run's. Raises ValueError where it was trained on other data."""
    data = open_dataset(_source(run, given))
    said = (RunFolder(run).read() or {}) if run is not None and trained else {}
    if said and data.fingerprint != said["fingerprint"]:
        raise ValueError(f"{data.source} holds other data than {run} was trained on: its statistics would not fit")
    return data


def _require_weights(checkpoint: Path) -> None:
    if not weights_files(checkpoint):
        raise ValueError(f"{checkpoint} holds no {WEIGHTS}")


def _load(checkpoint: Path, data: RankingDataset) -> Ranker:
    _require_weights(checkpoint)
    require_same_source(checkpoint)
    return load_ranker(checkpoint, data)


if __name__ == "__main__":
    sys.exit(main())
