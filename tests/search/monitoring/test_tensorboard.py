"""What TensorBoard shows of a search, read through TensorBoard's own backend."""

import dataclasses
import io
import math
import shutil

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard_backend import Backend

from fusion_models.losses.total import TERMS
from search.monitoring.front_picture import front_picture
from search.monitoring.hparams import METRICS, PART_GROUPS, kinds, part_groups
from search.monitoring.tensorboard import TensorBoardObserver
from search.run_store.job import Job, Outcome
from search.run_store.journal import open_journal
from search.study.search_stage import SearchStage
from search.study.stages import FixedStage
from spaces import PHASES, Choice

PHASE = PHASES["phase3"]
NUMBERS = {
    "ndcg": 0.5,
    "ndcg_gain": 0.02,
    "visual_masking_drop": 0.06,
    "attention_max_share": 0.5,
    "attention_balance": 0.9,
    "v1_correlation": 0.9,
}
STATES = ("finished", "stopped", "failed", "finished", "finished")


def result(epochs, numbers, parts=("total", "ranking", "unimodal")):
    flat = {f"parts/{name}": 1.0 / epochs for name in parts}
    return flat | {f"numbers/{name}": value for name, value in numbers.items()} | {"epochs": epochs}


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """A log folder: five search trials that ended, one that still trains, one baseline, and what was told of them."""
    path = tmp_path_factory.mktemp("board")
    storage = open_journal(path / "study.journal")
    stage = SearchStage(storage, PHASE, sampler="random", trials=6, seed=0)
    recipe = PHASE.base.restricted(("text",)).flat()
    fixed = FixedStage(storage, "baselines", [Job(trial_id="alone-text", name="text alone", recipe=recipe, seed=0)])
    board = TensorBoardObserver(path / "tensorboard", PHASE)
    told = {}
    for index, state in enumerate(STATES):
        job = stage.ask()
        numbers = NUMBERS | {"ndcg_gain": 0.01 * index, "v1_correlation": 0.95 - 0.1 * index}
        if state != "failed":
            board.on_epoch(stage, job, result(1, NUMBERS))
            board.on_epoch(stage, job, result(2, numbers))
        last = numbers if state != "failed" else {}
        record = stage.tell(job, Outcome(state=state, reason="why", epochs=2, numbers=last, seconds=1.0))
        board.on_end(stage, record, result(2, last, parts=()))
        told[job.trial_id] = record
    alone = fixed.ask()
    record = fixed.tell(alone, Outcome(state="finished", reason="", epochs=2, numbers={"ndcg": 0.4}, seconds=1.0))
    board.on_end(fixed, record, result(2, {"ndcg": 0.4}))
    running = stage.ask()
    board.on_epoch(stage, running, result(1, NUMBERS))
    while_running = Backend(path / "tensorboard").sessions()
    board.close()
    return path / "tensorboard", told, running, while_running


def test_the_columns_are_every_searched_key_and_every_objective_under_its_plain_name(search):
    experiment = Backend(search[0]).experiment()
    assert {info["name"] for info in experiment["hparamInfos"]} == set(PHASE.ranges)
    names = [info["name"]["tag"] for info in experiment["metricInfos"]]
    assert names[:4] == [o.name for o in PHASE.objectives]
    assert set(METRICS) <= set(names)
    assert not [info for info in experiment["metricInfos"] if info["name"].get("group")]
    types = {info["name"]: info["type"] for info in experiment["hparamInfos"]}
    assert types["model.context"] == "DATA_TYPE_STRING"
    assert types["model.variant"] == "DATA_TYPE_STRING"
    assert types["train.learning_rate"] == types["loss.unimodal"] == "DATA_TYPE_FLOAT64"


def test_epochs_that_came_in_one_result_are_points_of_their_own(tmp_path):
    stage = SearchStage(open_journal(tmp_path / "j"), PHASE, sampler="random", trials=2, seed=0)
    board = TensorBoardObserver(tmp_path / "tensorboard", PHASE)
    job = stage.ask()
    early = [{"epochs": n, "parts": {"total": 1.0 / n}, "numbers": {"ndcg": 0.1 * n}} for n in (1, 2, 4)]
    board.on_epoch(stage, job, result(3, {"ndcg": 0.3}) | {"before": early[:2]})
    outcome = Outcome(state="finished", reason="", epochs=5, numbers={"ndcg": 0.5}, seconds=1.0)
    board.on_end(stage, stage.tell(job, outcome), result(5, {"ndcg": 0.5}) | {"before": early[2:]})
    board.close()
    events = EventAccumulator(str(tmp_path / "tensorboard" / job.trial_id))
    events.Reload()
    for tag, value in (("loss/total", lambda n: 1.0 / n), ("ndcg", lambda n: 0.1 * n)):
        points = [(event.step, event.value) for event in events.Scalars(tag)]
        assert points == [(n, pytest.approx(value(n), rel=1e-6)) for n in (1, 2, 3, 4, 5)]


def test_every_trial_s_row_holds_every_key_and_its_last_numbers(search):
    path, told, *_ = search
    rows = Backend(path).sessions()
    assert set(rows) == {*told, search[2].trial_id, "alone-text"}
    for trial_id, record in told.items():
        hparams, metrics, _ = rows[trial_id]
        assert {key: hparams[key] for key in PHASE.ranges} == {key: record.recipe[key] for key in PHASE.ranges}
        if record.state != "failed":
            for name in NUMBERS:
                assert metrics[name] == pytest.approx(record.numbers[name], rel=1e-6)


def test_stopped_failed_finished_and_running_trials_are_told_apart(search):
    path, told, running, while_running = search
    rows = Backend(path).sessions()
    words = {"finished": "STATUS_SUCCESS", "failed": "STATUS_FAILURE", "stopped": "STATUS_UNKNOWN"}
    assert {t: rows[t][2] for t in told} == {t: words[r.state] for t, r in told.items()}
    done = {t: rows[t][1]["finished"] for t in told}
    assert done == {t: float(r.state == "finished") for t, r in told.items()}
    assert while_running[running.trial_id][2] == "STATUS_UNKNOWN"
    assert "finished" not in while_running[running.trial_id][1]
    assert while_running[running.trial_id][1]["ndcg_gain"] == pytest.approx(0.02)
    stopped = next(t for t, r in told.items() if r.state == "stopped")
    events = EventAccumulator(str(path / stopped), size_guidance={"tensors": 0})
    events.Reload()
    assert events.Tensors("state/text_summary")[0].tensor_proto.string_val[0] == b"stopped why"


def test_a_trial_that_was_told_and_not_written_gets_its_end_when_the_run_is_resumed(search, tmp_path):
    path, told, *_ = search
    copy = tmp_path / "tensorboard"
    shutil.copytree(path, copy)
    lost = next(t for t, r in told.items() if r.state == "finished")
    shutil.rmtree(copy / lost)
    before = {events: events.stat().st_size for events in copy.rglob("*/events.*")}
    board = TensorBoardObserver(copy, PHASE)
    board.mend(list(told.values()))
    board.close()
    assert Backend(copy).sessions()[lost] == Backend(path).sessions()[lost]
    after = {events: events.stat().st_size for events in copy.rglob("*/events.*") if events.parent.name != lost}
    assert after == before


def test_none_and_mixed_values_are_written_as_their_column_s_type():
    switched = dataclasses.replace(PHASE, ranges=PHASE.ranges | {"model.standardise": Choice(values=(True, False))})
    assert kinds(switched)["model.standardise"] == "bool"
    typed = kinds(PHASE)
    for key, value in PHASE.base.flat().items():
        if value is None:
            assert typed[key] == "text"
    assert set(typed.values()) == {"bool", "number", "text"}


def test_grouped_charts_name_every_loss_part_and_find_the_curves(search):
    path, told, *_ = search
    grouped = [tag for charts in PART_GROUPS.values() for tags in charts.values() for tag in tags]
    assert sorted(grouped) == sorted(f"loss/{name}" for name in ["total", "ranking", *TERMS])
    backend = Backend(path)
    categories = {c["title"]: [chart["title"] for chart in c["chart"]] for c in backend.layout()["category"]}
    assert list(categories)[:2] == ["objectives", "modalities"]
    assert set(part_groups("visual")) < set(categories)
    trial = next(t for t, r in told.items() if r.state == "finished")
    for tag, values in (("^loss/unimodal$", [1.0, 0.5]), ("^ndcg_gain$", [0.02, told[trial].numbers["ndcg_gain"]])):
        found = backend.custom_scalars(trial, tag)
        assert found["regex_valid"]
        (curve,) = found["tag_to_events"].values()
        assert [point[2] for point in curve][:2] == pytest.approx(values, rel=1e-6)


def test_the_front_is_a_picture_and_a_curve_at_experiment_level(search):
    path, told, *_ = search
    assert "front" in Backend(path).images()["."]
    events = EventAccumulator(str(path), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    pictures = events.Images("front")
    assert [picture.step for picture in pictures] == [4, 5]  # after four trials, and at the end
    opened = Image.open(io.BytesIO(pictures[-1].encoded_image_string))
    assert opened.size == (pictures[-1].width, pictures[-1].height)
    volume = [event.value for event in events.Scalars("hypervolume")]
    assert len(volume) == len(told)
    assert volume == sorted(volume)
    assert [event.value for event in events.Scalars("front size")][-1] >= 1


def test_a_picture_of_no_trial_and_of_equal_ones_can_be_drawn(search):
    records = [r for r in search[1].values() if r.state == "finished"]
    for shown in ([], records[:1], records[:1] * 3):
        png, size = front_picture(PHASE, shown)
        assert Image.open(io.BytesIO(png)).size == size
        assert all(math.isfinite(side) and side > 100 for side in size)
