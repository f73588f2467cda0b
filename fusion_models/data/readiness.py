"""Whether a dataset can be searched at all: something to rank, and a V1 to compare with, in every split."""

from __future__ import annotations

import numpy as np

from fusion_models.data.dataset import RankingDataset
from fusion_models.data.errors import DataError


def require_rankable(data: RankingDataset) -> None:
    """Raise DataError, naming split and column, where no query of a split could tell one ranker from another.

    Every split needs a query with a relevant candidate and one that is not as relevant, and one whose candidates V1
    tells apart. Queries that lack either are fine as long as others do not (they are counted, see `counts`); those of
    weight 0 tell nothing.
    """
    rows = np.flatnonzero((data.candidates > 0) & (data.weight > 0))
    first = data.offset[rows]
    differ = {
        "label": (np.maximum.reduceat(data.labels, first) > np.minimum.reduceat(data.labels, first)),
        "v1_score": (np.maximum.reduceat(data.v1, first) > np.minimum.reduceat(data.v1, first)),
    }
    remedies = {
        "label": "nothing can be ranked there. Add queries whose candidates carry different labels.",
        "v1_score": "V1 orders nothing there. Write the production ranker's own scores.",
    }
    for code, split in enumerate(data.splits):
        for column, telling in differ.items():
            inside = data.split[rows] == code
            if not telling[inside].any():
                raise DataError(
                    f"in none of the {int(inside.sum())} queries of the {split} split do two candidates differ:",
                    remedies[column],
                    file="judgements.parquet",
                    column=column,
                )
