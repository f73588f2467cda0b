"""Values put into the columns of planted items."""

import numpy as np


def spread(tables, modality, columns, values):
    """Put `values` `[judgements, K]` of each judged item into some of its columns; each item is judged once."""
    items = tables["items"].set_index("item_id")
    features = np.stack(items[modality].to_numpy()).astype(np.float64)
    rows = items.index.get_indexer(tables["judgements"]["item_id"])
    features[np.ix_(rows, columns)] = np.asarray(values).reshape(len(rows), -1)
    tables["items"][modality] = list(np.float32(features))
