"""A team's LightGBM ranker: LambdaMART on every column and V1's score."""

import lightgbm
import numpy as np

from outside.tables import MODALITIES, Pairs, score_table


def train(folder, kept=MODALITIES, seed=0):
    """A booster on the training split."""
    pairs = Pairs(folder, ["train"])
    data = lightgbm.Dataset(pairs.matrix(kept), label=pairs.labels, group=pairs.sizes)
    asked = {"objective": "lambdarank", "learning_rate": 0.1, "num_leaves": 15, "seed": seed, "verbosity": -1}
    asked |= {"feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1, "num_threads": 1}
    return lightgbm.train(asked, data, num_boost_round=60)


def scores(folder, booster):
    """The table: scores, and scores with each modality blanked."""
    pairs = Pairs(folder, ["validation", "test"])
    blanked = {f"v2_score.without_{m}": booster.predict(pairs.matrix(blank=m)) for m in MODALITIES}
    return score_table(pairs, booster.predict(pairs.matrix()), **blanked)


def to_onnx(folder, booster, path):
    """One input `X`, the columns one after another."""
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    width = Pairs(folder, ["validation"]).matrix().shape[1]
    model = convert_lightgbm(booster, initial_types=[("X", FloatTensorType([None, width]))], zipmap=False)
    path.write_bytes(model.SerializeToString())
    return np.asarray(width)
