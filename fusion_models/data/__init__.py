"""Data: three tables, checked at the door, as a `RankingDataset` of memory-mapped arrays and padded batches.

| layer, lowest first | holds |
|---|---|
| `errors`, `splits`, `schema`, `batch` | words that all share |
| `tables/` | the door: files and checks |
| `arrays/`, `gather`, `planted/` | the array cache, batches out of it; datasets whose truth is known |
| `dataset`, `sources` | an open dataset, and what `--data` may name |
| `clusters`, `folds`, `readiness`, `views/` | what is asked of an open dataset, and others made of it |
| `embedding/` | vectors out of pictures and words, through models of somebody else |
| `commands/`, `__main__` | `python -m fusion_models.data` |

`clipart/` is the bundled dataset, `clipart_build/` what made it. Nothing here imports the rest of `fusion_models` but
`config`, planted truth its nDCG, and `crossed_clusters` the form in which intervals read it.
"""

from fusion_models.data.dataset import RankingDataset
from fusion_models.data.errors import DataError
from fusion_models.data.sources import fingerprint_of, open_copy, open_dataset

__all__ = ["DataError", "RankingDataset", "fingerprint_of", "open_copy", "open_dataset"]
