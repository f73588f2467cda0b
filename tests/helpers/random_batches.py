"""Random padded batches and the schema that fits them."""

import numpy as np
import torch

from fusion_models.data.batch import Batch
from fusion_models.data.schema import FeatureSchema, FeatureStatistics
from fusion_models.modalities import MODALITIES

WIDTHS = {"visual": 7, "text": 5, "metadata": 3}


def schema(context=4, thumbnail=None, pair=0):
    """Odd widths, all different."""
    return FeatureSchema(widths=WIDTHS, query=context, pair=pair, thumbnail=thumbnail)


def statistics(context=4, seed=1):
    """Means and deviations that are not 0 and 1."""
    rng = np.random.default_rng(seed)
    widths = WIDTHS | {"context": context}
    return FeatureStatistics(
        mean={m: rng.normal(size=w).astype("f4") for m, w in widths.items()},
        std={m: rng.uniform(0.5, 2.0, size=w).astype("f4") for m, w in widths.items()},
        v1_mean=0.3,
        v1_std=1.7,
    )


def batch(queries=4, candidates=6, context=4, seed=0, full=False):
    """Lists of random length (one of them full), padded with zeros; item -1 where padded."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, candidates + 1, (queries,), generator=g)
    lengths[0] = candidates
    valid = torch.arange(candidates) < lengths[:, None]
    if full:
        valid = torch.ones_like(valid)

    def draw(width):
        return torch.randn(queries, candidates, width, generator=g) * valid[..., None]

    return Batch(
        features={m: draw(WIDTHS[m]) for m in MODALITIES},
        context=draw(context),
        labels=torch.randint(0, 3, (queries, candidates), generator=g).float() * valid,
        v1=draw(1)[..., 0],
        valid=valid,
        query=torch.arange(queries),
        item=torch.where(valid, torch.randint(0, 12, (queries, candidates), generator=g), -1),
    )


def reorder(b, order):
    """The batch with candidates in another order; `order` `[L]`."""
    return Batch(
        {m: x[:, order] for m, x in b.features.items()}, *(x[:, order] for x in b[1:5]), b.query, b.item[:, order]
    )
