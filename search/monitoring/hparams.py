"""What TensorBoard is told about a whole search: HParams columns, grouped charts, and how values are written.

A column has one type, which its range and the base recipe decide, and every trial's value is written as that type:
HParams drops what does not fit its column.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from torch.utils.tensorboard import SummaryWriter

from fusion_models.config import Flat
from search.run_store.job import State
from spaces import Choice, Phase

Kind = Literal["bool", "number", "text"]

METRICS = (
    "ndcg",
    "ndcg_gain",
    "attention_max_share",
    "attention_balance",
    "v1_correlation",
    "epochs",
    "finished",
)
"""Columns of every phase, after its own objectives and the suspect's masking drop. `finished` is 1 for a training that
ran to its end, 0 for one that was stopped or failed, and empty while it trains."""
PART_GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "loss: what is ranked": {
        "total": ("loss/total",),
        "ranking": ("loss/ranking",),
        "unimodal heads": ("loss/unimodal",),
    },
    "loss: reliance on the suspect": {
        "suspect importance": ("loss/suspect_importance",),
        "variance": ("loss/variance",),
        "attention entropy": ("loss/attention_entropy",),
    },
    "loss: what the fused features know": {
        "reconstruction": ("loss/reconstruction",),
        "contrastive": ("loss/contrastive",),
        "adversarial": ("loss/adversarial", "loss/orthogonality"),
        "V1 decorrelation": ("loss/decorrelation",),
    },
}
"""Category -> chart -> tags, of every part that `losses.total_loss` may return; `suspect` stands for its name."""
_STATUS = {"finished": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}
_TYPES = {"bool": api_pb2.DATA_TYPE_BOOL, "number": api_pb2.DATA_TYPE_FLOAT64, "text": api_pb2.DATA_TYPE_STRING}


def part_groups(suspect: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """`PART_GROUPS` with the suspect's name."""

    def named(text: str) -> str:
        return text.replace("suspect", suspect)

    return {
        named(group): {named(chart): tuple(map(named, tags)) for chart, tags in charts.items()}
        for group, charts in PART_GROUPS.items()
    }


def kinds(phase: Phase) -> dict[str, Kind]:
    """The type of every recipe key's column; a number that may also be None or a word is text."""
    base = phase.base.flat()
    values = {key: [base[key]] for key in base}
    for key, span in phase.ranges.items():
        values[key] += list(span.values) if isinstance(span, Choice) else [0.5]
    return {key: _kind(found) for key, found in values.items()}


def _kind(values: list[Any]) -> Kind:
    if all(isinstance(value, bool) for value in values):
        return "bool"
    return "number" if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values) else "text"


def write_experiment(writer: SummaryWriter, phase: Phase) -> None:
    """The HParams columns (searched keys, objectives under their plain names) and the grouped charts."""
    names = dict.fromkeys([*(o.name for o in phase.objectives), f"{phase.suspect}_masking_drop", *METRICS])
    typed = kinds(phase)
    experiment = api_pb2.Experiment(
        description=f"{phase.name}: {phase.title}",
        time_created_secs=time.time(),
        hparam_infos=[api_pb2.HParamInfo(name=k, display_name=k, type=_TYPES[typed[k]]) for k in phase.ranges],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=n), display_name=n) for n in names],
    )
    _write(writer, metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=experiment))
    charts = {n: ["Multiline", [f"^{n}$"]] for n in names if n not in ("epochs", "finished")}
    drops = ["Multiline", [f"^{m}_masking_drop$" for m in phase.base.model.of_dataset]]
    shares = ["Multiline", [f"^attention_{m}$" for m in phase.base.model.of_dataset]]
    layout: dict[str, dict[str, list[Any]]] = {
        "objectives": charts,
        "modalities": {"masking drops": drops, "attention shares": shares},
    }
    for group, members in part_groups(phase.suspect).items():
        layout[group] = {chart: ["Multiline", [f"^{tag}$" for tag in tags]] for chart, tags in members.items()}
    writer.add_custom_scalars(layout)


def write_start(writer: SummaryWriter, trial_id: str, recipe: Flat, typed: Mapping[str, Kind]) -> None:
    """The trial's whole recipe, so that HParams lists it from its first epoch."""
    start = plugin_data_pb2.SessionStartInfo(group_name=trial_id, start_time_secs=time.time())
    for key, value in recipe.items():
        kind = typed.get(key) or _kind([value])
        if kind == "bool" and isinstance(value, bool):
            start.hparams[key].bool_value = value
        elif kind == "number" and isinstance(value, int | float):
            start.hparams[key].number_value = float(value)
        else:
            start.hparams[key].string_value = "none" if value is None else str(value)
    _write(writer, metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=start))


def write_end(writer: SummaryWriter, state: State) -> None:
    """How the trial ended. HParams has no word for a trial stopped early and calls it, like a running one, unknown: the
    column `finished` tells them apart."""
    status = _STATUS.get(state, api_pb2.STATUS_UNKNOWN)
    ended = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    _write(writer, metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=ended))


def write_png(writer: SummaryWriter, tag: str, png: bytes, size: tuple[int, int], step: int) -> None:
    """An encoded picture as it is: `add_image` would decode and encode it again."""
    image = Summary.Image(encoded_image_string=png, width=size[0], height=size[1], colorspace=3)
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    writer._get_file_writer().add_summary(summary, step)  # type: ignore[no-untyped-call]


def _write(writer: SummaryWriter, tag: str, data: Any) -> None:
    value = Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR)
    writer._get_file_writer().add_summary(Summary(value=[value]))  # type: ignore[no-untyped-call]
