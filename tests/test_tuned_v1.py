"""A tuned V1 in the context: out of fold in training, the ranker's own trees elsewhere, never blanked."""

import numpy as np
import pytest
import torch

from fusion_models.config import Recipe
from fusion_models.contribution import contribution
from fusion_models.data import DataError, open_dataset
from fusion_models.data.views.relabelled import relabelled
from fusion_models.evaluation import Blanking, evaluate, score
from fusion_models.latency import scoring_latency
from fusion_models.metrics import blank, ndcg
from fusion_models.models import build_ranker
from fusion_models.training import start, train
from fusion_models.tuned_v1 import equip, prepare, seen_by, tuned_v1

READS = ("v1", "text", "metadata")
SMALL = {"model.width": 8, "model.heads": 2, "model.layers": 1, "train.epochs": 2, "model.context": "tuned_v1"}


@pytest.fixture(scope="module")
def ranker(small_data):
    state = start(Recipe().updated(SMALL), small_data, seed=0)
    for _ in train(state, small_data):
        pass
    return state.model.eval()


def of_split(data, scores, split):
    return np.concatenate([scores[data.offset[r] : data.offset[r + 1]] for r in data.rows(split)])


def test_training_queries_are_scored_by_trees_that_never_saw_them():
    """On labels drawn at random there is nothing to learn: in-sample trees order them well, out of fold they cannot."""
    data = relabelled(open_dataset("planted?queries=400&candidates=10"), "random", 0)
    found = tuned_v1(data, READS)
    batch = data.gather(data.rows("train"))
    out_of_fold = seen_with(data, found).gather(data.rows("train")).context[..., -1]
    chance = float(ndcg(torch.zeros_like(batch.v1), batch.labels, batch.valid).nanmean())
    inside = float(ndcg(found.trees(batch), batch.labels, batch.valid).nanmean())
    outside = float(ndcg(out_of_fold, batch.labels, batch.valid).nanmean())
    assert inside > chance + 0.1
    assert abs(outside - chance) < 0.03


def seen_with(data, found):
    return data.with_tuned_v1(found.key, found.scores)


def test_other_splits_are_scored_by_the_trees_that_travel(small_data):
    found = tuned_v1(small_data, READS)
    for split in ("validation", "test"):
        batch = small_data.gather(small_data.rows(split))
        seen = seen_with(small_data, found).gather(small_data.rows(split))
        torch.testing.assert_close(found.trees(batch)[batch.valid], seen.context[..., -1][batch.valid])
        assert (seen.context[..., -1][~batch.valid] == 0).all()


def test_scores_are_standardised_by_the_training_split(small_data):
    known = of_split(small_data, tuned_v1(small_data, READS).scores, "train")
    assert known.mean() == pytest.approx(0.0, abs=1e-4)
    assert known.std() == pytest.approx(1.0, abs=1e-4)


def test_labels_outside_training_are_not_read(small_data):
    """The same training split under other labels elsewhere gives the same trees."""
    data = relabelled(small_data, "permuted", 1)
    data._made_of = (*data._made_of[:2], "one")
    labels = np.array(data.labels)
    first = tuned_v1(data, READS)
    for row in np.concatenate([data.rows("validation"), data.rows("test")]):
        labels[data.offset[row] : data.offset[row + 1]] = 1.0
    data.labels, data._made_of = labels, (*data._made_of[:2], "another")
    data.__dict__.pop("_gatherer", None)
    second = tuned_v1(data, READS)
    assert second is not first
    assert np.array_equal(first.scores, second.scores)


def test_it_is_fitted_once_a_node_whatever_the_half_and_anew_for_other_labels(tmp_path, monkeypatch):
    small_data = open_dataset(
        "planted?queries=100&candidates=6", cache=tmp_path
    )  # no other process fits anything there
    found = tuned_v1(small_data, READS)
    assert tuned_v1(small_data.halved(), READS) is found
    broken = relabelled(small_data, "permuted", 0)
    assert tuned_v1(broken, READS).key != found.key
    prepare(small_data, [Recipe().updated(SMALL)])
    monkeypatch.setattr("fusion_models.tuned_v1._fit", lambda *_: pytest.fail("fitted again"))
    prepare(small_data, [Recipe().updated(SMALL), Recipe()])
    assert tuned_v1(small_data, READS) is found
    with pytest.raises(pytest.fail.Exception):
        tuned_v1(small_data, ("metadata",))


def test_two_fits_are_equal(tmp_path):
    one = tuned_v1(open_dataset("planted?queries=100&candidates=6", cache=tmp_path / "a"), READS)
    other = tuned_v1(open_dataset("planted?queries=100&candidates=6", cache=tmp_path / "b"), READS)
    assert one is not other
    assert one.key == other.key
    assert np.array_equal(one.scores, other.scores)


def test_without_a_second_training_query_it_says_what_to_do(small_data, monkeypatch):
    rows = small_data.rows
    monkeypatch.setattr(small_data, "rows", lambda split: rows(split)[:1])
    with pytest.raises(DataError, match=r"model\.context=v1"):
        tuned_v1(small_data, ("text", "metadata"))


def test_a_ranker_refuses_lists_that_lack_it_and_completes_them(ranker, small_data):
    batch = small_data.gather(small_data.rows("validation"))
    with pytest.raises(ValueError, match=r"ranker\.complete"):
        ranker(batch)
    complete = ranker.complete(batch)
    assert ranker.complete(complete) is complete
    seen = seen_by(ranker, small_data).gather(small_data.rows("validation"))
    torch.testing.assert_close(ranker(complete).scores, ranker(seen).scores)


def test_it_reaches_the_query_token_alone(ranker, small_data):
    batch = seen_by(ranker, small_data).gather(small_data.rows("validation"))
    other = batch._replace(context=torch.cat([batch.context[..., :-1], batch.context[..., -1:] + 1.0], dim=-1))
    (tokens, _, query), (tokens_too, _, query_too) = ranker.tokens(batch), ranker.tokens(other)
    assert torch.equal(tokens, tokens_too)
    assert not torch.allclose(query, query_too)
    assert torch.equal(tokens, ranker.tokens(batch._replace(v1=batch.v1 + 1.0))[0])


def test_v1_s_own_score_stands_beside_it_only_where_its_trees_read_that(ranker, small_data):
    recipe = Recipe().updated(SMALL).restricted(("visual", "metadata"))
    without = start(recipe, small_data, seed=0).model.eval()
    for model, expected in ((ranker, False), (without, True)):
        batch = seen_by(model, small_data).gather(small_data.rows("validation"))
        same = torch.equal(model(batch._replace(v1=batch.v1 + batch.labels)).scores, model(batch).scores)
        assert same is expected


def test_blanks_leave_it_alone(ranker, small_data):
    """Its trees read the text; blanking the text must not reach them."""
    data = seen_by(ranker, small_data)
    batch = data.gather(small_data.rows("validation"))
    blanked = blank(batch, "text", "zero")
    assert torch.equal(blanked.context, batch.context)
    expected = ndcg(ranker(blanked).scores, batch.labels, batch.valid).detach().numpy()
    found = evaluate(ranker, small_data, "validation", Blanking(("text",)))
    np.testing.assert_allclose(found.masked["text", "zero"], expected, atol=1e-6)
    naive = ranker(ranker.complete(blank(small_data.gather(small_data.rows("validation")), "text", "zero"))).scores
    assert not torch.allclose(naive, ranker(blanked).scores)


def test_every_measurement_works_on_it(ranker, small_data):
    assert score(ranker, small_data, "test").ndcg().shape == (len(small_data.rows("test")),)
    found = contribution(ranker, small_data, "validation")
    assert set(found.masked_shapley) == {"visual", "text", "metadata"}
    assert scoring_latency(ranker, small_data, queries=20, warm_up=5).p95 > 0.0


def test_training_reads_the_out_of_fold_scores(small_data, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "fusion_models.training.loop.train_step", lambda *a, **k: seen.append(a[1]) or {"total": torch.zeros(())}
    )
    state = start(Recipe().updated(SMALL | {"train.epochs": 1}), small_data, seed=0)
    next(train(state, small_data))
    scores = tuned_v1(small_data, READS).scores
    for batch in seen:
        for row, context, valid in zip(batch.query.tolist(), batch.context, batch.valid, strict=True):
            judged = slice(int(small_data.offset[row]), int(small_data.offset[row + 1]))
            np.testing.assert_array_equal(context[valid][:, -1].numpy(), scores[judged])
    assert len(seen) > 1


def test_trees_of_another_dataset_score_this_one(ranker, small_data):
    other = open_dataset("planted?queries=120&candidates=8&seed=5")
    data = seen_by(ranker, other)
    batch = other.gather(other.rows("train"))
    seen = data.gather(other.rows("train"))
    assert data.tuned_v1[0] != tuned_v1(other, READS).key
    torch.testing.assert_close(ranker.trees(batch)[batch.valid], seen.context[..., -1][batch.valid])


def test_trees_travel_with_the_weights(ranker, small_data):
    fresh = build_ranker(Recipe().updated(SMALL), small_data.schema, small_data.statistics)
    assert fresh.trees.digest != ranker.trees.digest
    fresh.load_state_dict(ranker.state_dict())
    assert fresh.trees.digest == ranker.trees.digest == tuned_v1(small_data, READS).key
    assert not list(fresh.trees.parameters())


def test_a_ranker_without_it_needs_no_trees(small_data):
    model = build_ranker(Recipe().updated(SMALL | {"model.context": "v1"}), small_data.schema, small_data.statistics)
    equip(model, small_data)
    assert model.trees is None
    assert seen_by(model, small_data) is small_data
