"""The three tables, the checks at the door, splits, padded batches; bundled and planted data."""

from fusion_models.data.dataset import RankingDataset
from fusion_models.data.errors import DataError
from fusion_models.data.sources import open_copy, open_dataset

__all__ = ["DataError", "RankingDataset", "open_copy", "open_dataset"]
