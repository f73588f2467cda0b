"""What a team outside this project has: its three tables as numpy arrays, and a way to write scores down."""

from pathlib import Path

import numpy as np
import pandas as pd

MODALITIES = ("visual", "text", "metadata")


class Pairs:
    """Every judged pair of some splits, query after query: features by modality, V1's score, labels."""

    def __init__(self, folder, splits):
        items = pd.read_parquet(Path(folder) / "items.parquet").set_index("item_id")
        queries = pd.read_parquet(Path(folder) / "queries.parquet").set_index("query_id")
        judged = pd.read_parquet(Path(folder) / "judgements.parquet")
        judged = judged[judged["query_id"].map(queries["split"]).isin(splits)]
        self.judged = judged.sort_values("query_id", kind="stable").reset_index(drop=True)
        self.labels = self.judged["label"].to_numpy(dtype=np.float64)
        self.sizes = self.judged.groupby("query_id", sort=True).size().to_numpy()
        self.features = {m: np.stack(items[m].loc[self.judged["item_id"]].to_list()) for m in MODALITIES}
        self.v1 = self.judged["v1_score"].to_numpy(dtype=np.float32)[:, None]

    def matrix(self, kept=MODALITIES, blank=None, v1=True):
        """`[pairs, D]` float32: the kept modalities one after another (one of them zeros), then V1's score."""
        columns = [self.features[m] * (m != blank) for m in kept] + ([self.v1] if v1 else [])
        return np.concatenate(columns, axis=1).astype(np.float32)


def score_table(pairs, scores, **columns):
    """The table that an audit reads."""
    table = pairs.judged[["query_id", "item_id"]].assign(v2_score=np.asarray(scores, dtype=np.float64))
    return table.assign(**{name: np.asarray(values, dtype=np.float64) for name, values in columns.items()})
