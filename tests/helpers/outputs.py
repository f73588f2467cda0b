"""Rankers' outputs made by hand: lists, scores, blanked scores and shares drawn at random."""

import numpy as np

from fusion_models.quantities import Lists, Outputs

MODALITIES = ("visual", "text", "metadata")


def random_lists(queries=60, documents=8, seed=0, empty=(3,)):
    """Graded labels that V1 partly knows; queries in `empty` have no relevant document, lists end at random lengths."""
    random = np.random.default_rng(seed)
    valid = np.arange(documents) < random.integers(4, documents + 1, queries)[:, None]
    quality = random.normal(size=(queries, documents))
    labels = np.where(valid, np.digitize(quality, [0.2, 1.0]), 0).astype(float)
    labels[:, 0] = np.maximum(labels[:, 0], 1.0)
    labels[list(empty)] = 0.0
    v1 = np.where(valid, quality + random.normal(scale=1.5, size=valid.shape), 0.0)
    return Lists(rows=np.arange(queries), labels=labels, v1=v1, valid=valid)


def random_outputs(lists, seed=0, noise=1.0, blind=1.5, modalities=MODALITIES, images=False):
    """A ranker that knows the labels up to `noise`, and less of them with a modality blanked."""
    random = np.random.default_rng(seed)

    def scores(spread):
        return np.where(lists.valid, lists.labels + random.normal(scale=spread, size=lists.valid.shape), 0.0)

    return Outputs(
        lists=lists,
        scores=scores(noise),
        modalities=modalities,
        blanked={(m, "zero"): scores(blind)[None] for m in modalities},
        shares=random.dirichlet([3.0, 2.0, 2.0][: len(modalities)], (len(lists.rows), 2)),
        ssim=random.uniform(0.2, 0.9, len(lists.rows)) if images else None,
    )
