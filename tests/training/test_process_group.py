"""N processes train as one: same losses, same metrics, same next step, uneven last batches included."""

import itertools
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import ranks
import torch

from fusion_models.config import LOSS_TERMS, Recipe
from fusion_models.data import open_dataset
from fusion_models.process_group import ProcessGroup, shard_of

EVERYTHING = {Recipe().key(f"loss.{term}"): 0.3 for term in LOSS_TERMS} | {
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
    "train.epochs": 1,
}
MASKING = EVERYTHING | {"loss.ranking": "neural_ndcg", "loss.visual_importance_form": "masking", "train.epochs": 1}
SHORT = EVERYTHING | {"train.epochs": 2}
SLICED = EVERYTHING | {"train.slice_queries": 2, "train.epochs": 1}
DROPOUT = EVERYTHING | {"model.dropout": 0.3, "train.epochs": 1}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return ranks.cut_clipart(tmp_path_factory.mktemp("cut") / "data")


@pytest.fixture(scope="module")
def one(source, tmp_path_factory):
    """What one process sees of a short training, and its checkpoint after the first epoch."""
    folder = tmp_path_factory.mktemp("one") / "training"
    ranks.trained(source, SHORT, folder=folder, stop=1)
    return ranks.trained(source, SHORT), folder


@pytest.fixture(scope="module")
def broken(source, tmp_path_factory):
    """The data as a worker with bad memory reads them: one picture of the first batch is no number."""
    folder = tmp_path_factory.mktemp("broken") / "data"
    shutil.copytree(source, folder)
    queries = pq.read_table(folder / "queries.parquet").to_pandas()
    queries["query_id"] += " "  # other bytes, another cache
    judged = pq.read_table(folder / "judgements.parquet").to_pandas()
    judged["query_id"] += " "
    queries.to_parquet(folder / "queries.parquet", index=False)
    judged.to_parquet(folder / "judgements.parquet", index=False)
    data = open_dataset(str(folder))
    first = next(data.row_batches("train", 6, generator=torch.Generator().manual_seed(0)))
    batch = data.gather(first)
    own = int(batch.item[-1, 0])  # the last of the six queries is rank 1's
    assert own not in batch.item[:3]
    visual = np.load(data.folder / "modality_visual.npy")
    visual[own] = np.nan
    np.save(data.folder / "modality_visual.npy", visual)
    return str(folder)


@pytest.fixture(scope="module")
def two(source, one, broken, tmp_path_factory):
    """What two processes saw of each training."""
    folder = tmp_path_factory.mktemp("ranks")
    trainings = {
        "everything": (source, EVERYTHING, {}),
        "literal": (source, LITERAL, {}),
        "masking": (source, MASKING, {}),
        "sliced": (source, SLICED, {}),
        "dropout": (source, DROPOUT, {}),
        "resumed": (source, SHORT, {"folder": str(one[1])}),
        "interrupted": (source, SHORT, {"folder": str(folder / "training"), "stop": 1}),
        "broken": (broken, EVERYTHING | {"train.modality_dropout": 0.0}, {}),
    }
    return ranks.train_in_ranks(folder, trainings), folder


@pytest.fixture(scope="module")
def whole(source):
    """What one process sees of the whole recipe."""
    return ranks.trained(source, EVERYTHING)


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_train_as_one(two, whole, rank):
    mine = two[0]["everything"][rank]
    assert len(whole["steps"]) == 56
    assert set(whole["steps"][0]) == {
        *(Recipe().key(f"loss.{term}").removeprefix("loss.") for term in LOSS_TERMS),
        "ranking",
        "total",
    }
    for found, expected in zip(mine["steps"], whole["steps"], strict=True):
        assert found == pytest.approx(expected, abs=1e-5)
    for (numbers, ndcg), (expected, expected_ndcg) in zip(mine["epochs"], whole["epochs"], strict=True):
        assert numbers == pytest.approx(expected, abs=1e-6)
        np.testing.assert_allclose(ndcg, expected_ndcg, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "recipe"), [("literal", LITERAL), ("masking", MASKING), ("sliced", EVERYTHING | {"train.epochs": 1})]
)
def test_other_forms_of_the_terms_too(two, source, name, recipe):
    whole = ranks.trained(source, recipe)
    for rank in two[0][name]:
        for found, expected in zip(rank["steps"], whole["steps"], strict=True):
            assert found == pytest.approx(expected, abs=1e-5)


def test_slices_change_nothing_in_one_process(source):
    recipe = EVERYTHING | {"train.epochs": 1}
    whole, sliced = (ranks.trained(source, recipe | {"train.slice_queries": n}) for n in (0, 2))
    for found, expected in zip(sliced["steps"], whole["steps"], strict=True):
        assert found == pytest.approx(expected, abs=1e-5)


def test_one_process_s_training_goes_on_in_two_and_theirs_in_one(two, one, source):
    found, folder = two
    rest = one[0]["epochs"][1:]
    resumed = ranks.trained(source, SHORT, folder=folder / "training")
    for epochs in (found["resumed"][0]["epochs"], found["resumed"][1]["epochs"], resumed["epochs"]):
        for (numbers, _), (expected, _) in zip(epochs, rest, strict=True):
            assert numbers == pytest.approx(expected, abs=1e-6)


def test_with_dropout_the_processes_differ_and_their_common_state_does_not(two):
    left, right = two[0]["dropout"]
    assert left["steps"] == right["steps"]
    assert left["epochs"][-1][0] == right["epochs"][-1][0]
    assert torch.equal(left["random"], right["random"])
    assert torch.equal(left["order"], right["order"])


def test_a_number_that_is_not_finite_on_one_rank_stops_all_and_names_it(two):
    for rank in two[0]["broken"]:
        (said,) = rank["epochs"]
        assert "the loss of rank 1 is not finite at epoch 1, step 1 of 7" in said
        assert "the other 1 were finite" in said


def test_share_covers_every_query_once():
    for queries, size in itertools.product((1, 2, 5, 32), (1, 2, 3, 7)):
        parts = []
        for rank in range(size):
            process_group = ProcessGroup()
            process_group.rank, process_group.size = rank, size
            shard = shard_of(process_group, torch.full((queries,), 4))
            rows = torch.arange(queries)
            parts += shard.own(rows).tolist() if shard.counts is None or shard.first < shard.stop else []
        assert parts == list(range(queries))
