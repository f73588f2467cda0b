"""A team's scikit-learn pipeline: products of the picture's columns in a ridge regression, without V1's score."""

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from outside.tables import MODALITIES, Pairs, score_table


def train(folder, kept=MODALITIES, seed=0):
    """The pipeline, on nine tenths of the training queries; labels centred within each query."""
    pairs = Pairs(folder, ["train"])
    query = np.repeat(np.arange(len(pairs.sizes)), pairs.sizes)
    targets = pairs.labels - (np.bincount(query, pairs.labels) / pairs.sizes)[query]
    chosen = np.random.default_rng(seed).random(len(pairs.sizes)) < 0.9
    matrix = pairs.matrix(kept, v1=False)
    picture = list(range(pairs.features["visual"].shape[1])) if "visual" in kept else []
    others = [i for i in range(matrix.shape[1]) if i not in picture]
    products = make_pipeline(StandardScaler(), PolynomialFeatures(degree=2, interaction_only=True, include_bias=False))
    parts = [("picture", products, picture)] if picture else []
    columns = ColumnTransformer([*parts, ("others", StandardScaler(), others)])
    return make_pipeline(columns, Ridge(alpha=30.0)).fit(matrix[chosen[query]], targets[chosen[query]])


def scores(folder, pipeline):
    """The table: scores, and scores with each modality blanked."""
    pairs = Pairs(folder, ["validation", "test"])
    blanked = {f"v2_score.without_{m}": pipeline.predict(pairs.matrix(blank=m, v1=False)) for m in MODALITIES}
    return score_table(pairs, pipeline.predict(pairs.matrix(v1=False)), **blanked)


def refit_scores(folder, pipeline, kept):
    """Scores of a pipeline that was trained with some modalities alone, in the order of the table's rows."""
    return pipeline.predict(Pairs(folder, ["validation", "test"]).matrix(kept, v1=False))


def to_onnx(folder, pipeline, path):
    """One input `X`, the columns one after another."""
    from skl2onnx import to_onnx as converted

    example = Pairs(folder, ["validation"]).matrix(v1=False)[:1]
    path.write_bytes(converted(pipeline, example).SerializeToString())
