"""N processes train as one: same losses, same metrics, same next step, uneven last batches included."""

import numpy as np
import pytest
import ranks

from fusion_models.config import LOSS_TERMS

EVERYTHING = {f"loss.{term}": 0.3 for term in LOSS_TERMS} | {
    "loss.attention_entropy_target": 1.0,
    "loss.decorrelation_target": 0.1,
    "model.layers": 1,
    "model.width": 16,
    "model.dropout": 0.0,
    "train.modality_dropout": 0.3,
    "train.gradient_modulation": 0.5,
    "train.batch_queries": 6,  # 37 queries: the last batch of an epoch has one, and so rank 0 none
    "train.epochs": 8,
    "train.patience": 8,
}
LITERAL = EVERYTHING | {
    "loss.ranking": "lambdarank",
    "loss.visual_importance_form": "literal",
    "loss.attention_entropy_form": "literal",
    "loss.adversarial_form": "literal",
    "loss.orthogonality": 0.0,
    "loss.reconstruction_form": "cosine",
    "train.epochs": 2,
}
MASKING = EVERYTHING | {"loss.ranking": "neural_ndcg", "loss.visual_importance_form": "masking", "train.epochs": 2}
SLICED = EVERYTHING | {"train.slice_queries": 2, "train.epochs": 2}
DROPOUT = EVERYTHING | {"model.dropout": 0.3, "train.epochs": 2}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return ranks.cut_clipart(tmp_path_factory.mktemp("cut") / "data")


@pytest.fixture(scope="module")
def two(source, tmp_path_factory):
    """What two processes saw of each training."""
    recipes = {"everything": EVERYTHING, "literal": LITERAL, "masking": MASKING, "sliced": SLICED, "dropout": DROPOUT}
    trainings = {name: (source, recipe) for name, recipe in recipes.items()}
    return ranks.train_in_ranks(tmp_path_factory.mktemp("ranks"), trainings)


@pytest.mark.parametrize(
    ("name", "recipe", "steps"),
    [("everything", EVERYTHING, 56), ("literal", LITERAL, 14), ("masking", MASKING, 14), ("sliced", EVERYTHING, 14)],
)
def test_two_processes_train_as_one(two, source, name, recipe, steps):
    one = ranks.trained(source, recipe)
    assert len(one["steps"]) >= steps
    for rank in two[name]:
        for step in range(steps):
            assert rank["steps"][step] == pytest.approx(one["steps"][step], abs=1e-5)
        for mine, whole in zip(rank["epochs"], one["epochs"], strict=False):
            assert mine[0] == pytest.approx(whole[0], abs=1e-6)
            np.testing.assert_allclose(mine[1], whole[1], atol=1e-6, equal_nan=True)
