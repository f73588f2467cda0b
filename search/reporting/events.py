"""Curves read back from the TensorBoard files that a run writes while it trains."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

TAGS = ("ndcg_gain", "ndcg", "attention_max_share", "v1_correlation")
DROP = "_masking_drop"


def read_curves(folder: Path) -> pd.DataFrame:
    """trial_id, epoch, name, value of every scalar of every trial's TensorBoard run; the last value of an epoch counts.

    A training that was interrupted left several files; they are joined.
    """
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    rows = []
    for path in sorted(folder.glob("*/events.*"), key=lambda p: (p.parent.name, p.stat().st_mtime_ns)):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars" or value.tag in TAGS or value.tag.endswith(DROP):
                    number = make_ndarray(value.tensor)
                    if number.size == 1 and number.dtype.kind == "f":
                        rows.append((path.parent.name, event.step, value.tag, float(number.reshape(-1)[0])))
    table = pd.DataFrame(rows, columns=["trial_id", "epoch", "name", "value"])
    return table.drop_duplicates(["trial_id", "epoch", "name"], keep="last", ignore_index=True)
