"""TensorBoard for comparing trials: one run a trial, written while it trains.

Ray's own logger writes HParams only at a trial's end, drops None and odd types, and prefixes every name; here the
HParams of a trial stand from its first epoch, with every objective as a metric column under its plain name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from torch.utils.tensorboard import SummaryWriter

from fusion_models.config import Flat
from search.front import hypervolume
from search.job import Job, TrialRecord, below
from search.stages import SearchStage, Stage
from spaces import Phase

METRICS = (
    "ndcg",
    "ndcg_gain",
    "visual_masking_drop",
    "attention_max_share",
    "attention_balance",
    "v1_correlation",
)


class TensorBoardObserver:
    """Writes curves and HParams of every trial, and the search's own curves at experiment level."""

    def __init__(self, folder: Path, phase: Phase) -> None:
        self._folder = folder
        self._phase = phase
        self._writers: dict[str, SummaryWriter] = {}
        self._experiment: SummaryWriter | None = None
        self._searched: list[TrialRecord] = []

    def take(self, records: Sequence[TrialRecord]) -> None:
        """Count what an interrupted run had already searched, so that the hypervolume's curve goes on from there."""
        self._searched += records

    def on_epoch(self, stage: Stage, job: Job, result: dict[str, Any]) -> None:
        """One epoch's loss parts and objectives."""
        writer = self._writer(job.trial_id, job.recipe)
        epoch = int(result["epochs"])
        _scalars(writer, below(result, "parts"), "loss", epoch)
        _scalars(writer, below(result, "numbers"), "", epoch)
        writer.flush()

    def on_end(self, stage: Stage, record: TrialRecord, result: dict[str, Any]) -> None:
        """The final numbers, the trial's state, and the front's hypervolume."""
        writer = self._writer(record.trial_id, record.recipe)
        _scalars(writer, below(result, "parts"), "loss", record.epochs)
        _scalars(writer, record.numbers, "", record.epochs)
        writer.add_text("state", f"{record.state} {record.state_reason}".strip())
        status = {"finished": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}
        ended = plugin_data_pb2.SessionEndInfo(status=status.get(record.state, api_pb2.STATUS_UNKNOWN))
        data = plugin_data_pb2.HParamsPluginData(session_end_info=ended)
        _write_hparams(writer, metadata.SESSION_END_INFO_TAG, data)
        writer.close()
        del self._writers[record.trial_id]
        if isinstance(stage, SearchStage):
            self._searched.append(record)
            self._experiment_writer().add_scalar(
                "hypervolume", hypervolume(self._phase, self._searched), len(self._searched)
            )
            self._experiment_writer().flush()

    def close(self) -> None:
        """Close every file."""
        for writer in [*self._writers.values(), *([self._experiment] if self._experiment else [])]:
            writer.close()

    def _writer(self, trial_id: str, recipe: Flat) -> SummaryWriter:
        if trial_id not in self._writers:
            writer = SummaryWriter(str(self._folder / trial_id))
            start = plugin_data_pb2.SessionStartInfo(group_name=trial_id)
            for key, value in recipe.items():
                _set_value(start.hparams[key], value)
            _write_hparams(
                writer, metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=start)
            )
            self._writers[trial_id] = writer
        return self._writers[trial_id]

    def _experiment_writer(self) -> SummaryWriter:
        if self._experiment is None:
            self._experiment = SummaryWriter(str(self._folder))
            columns = [
                api_pb2.MetricInfo(name=api_pb2.MetricName(tag=name), display_name=name)
                for name in dict.fromkeys([*(o.name for o in self._phase.objectives), *METRICS])
            ]
            keys = [_column(key, self._phase.base.flat()[key]) for key in self._phase.ranges]
            experiment = api_pb2.Experiment(hparam_infos=keys, metric_infos=columns)
            data = plugin_data_pb2.HParamsPluginData(experiment=experiment)
            _write_hparams(self._experiment, metadata.EXPERIMENT_TAG, data)
        return self._experiment


def _scalars(writer: SummaryWriter, values: dict[str, float], prefix: str, step: int) -> None:
    for name, value in values.items():
        writer.add_scalar(f"{prefix}/{name}" if prefix else name, value, step)


def _write_hparams(writer: SummaryWriter, tag: str, data: Any) -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary

    value = Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR)
    writer._get_file_writer().add_summary(Summary(value=[value]))  # type: ignore[no-untyped-call]


def _set_value(slot: Any, value: Any) -> None:
    if isinstance(value, bool):
        slot.bool_value = value
    elif isinstance(value, int | float):
        slot.number_value = float(value)
    else:
        slot.string_value = str(value)


def _column(key: str, value: Any) -> Any:
    kind = api_pb2.DATA_TYPE_STRING
    if isinstance(value, bool):
        kind = api_pb2.DATA_TYPE_BOOL
    elif isinstance(value, int | float):
        kind = api_pb2.DATA_TYPE_FLOAT64
    return api_pb2.HParamInfo(name=key, display_name=key, type=kind)
