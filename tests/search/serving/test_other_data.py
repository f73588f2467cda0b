"""A log, or a run, whose dataset is another one by now; and how many units come a day."""

import datetime
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusion_models.data import open_dataset
from search import shadow
from search.serving.journal import SCHEMA, write_decisions
from search.serving.monitor import MOST_DECISIONS, new_units_a_day
from search.serving.reference import DESCRIPTION, training_reference, write_reference
from search.shadow import main

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def decision(request, index, **changes):
    scores = [c["v1_score"] for c in request["candidates"]]
    row = {
        "at": START + datetime.timedelta(minutes=index),
        "request_id": f"r{index}",
        "unit": f"user-{index % 4}",
        "query_id": request["query"]["id"],
        "items": [c["item"] for c in request["candidates"]],
        "v1_scores": scores,
        "v1_order": list(range(len(scores))),
        "answer_ms": 2.0,
        "v2_status": "absent",
        "request": json.dumps(request),
    }
    return row | changes


@pytest.fixture
def log(tmp_path, small_data, request_of):
    """Twelve requests of the dataset, and one of an item that is not in it."""
    unknown = request_of(0)
    unknown["candidates"][0]["item"] = "gone since"
    rows = [decision(request_of(i), i) for i in range(12)] + [decision(unknown, 12)]
    path = tmp_path / "log"
    write_reference(path, small_data, None, training_reference(small_data, None))
    write_decisions(pa.Table.from_pylist(rows, schema=SCHEMA), path / "0-a.parquet")
    return path


def renamed(log, small_data):
    """Say that the log is of other data than there are now."""
    said = {"data": small_data.source, "fingerprint": "of then", "checkpoint": None}
    (log / DESCRIPTION).write_text(json.dumps(said))


def test_a_request_that_no_longer_fits_is_left_out_and_counted(log):
    assert main(["monitor", str(log)]) == 0
    report = json.loads((log / "monitor.json").read_text())
    assert (report["decisions"], report["read"], report["left_out"], report["same_data"]) == (13, 12, 1, True)


def test_a_log_is_not_read_against_other_data_unless_they_are_named(log, small_data, capsys):
    renamed(log, small_data)
    assert main(["monitor", str(log)]) == 2
    assert "holds other data than when" in capsys.readouterr().err
    assert main(["monitor", str(log), "--data", small_data.source]) == 0
    assert json.loads((log / "monitor.json").read_text())["same_data"] is False


def test_nor_is_it_replayed(log, small_data, checkpoint, capsys):
    renamed(log, small_data)
    assert main(["replay", str(log), "--checkpoint", str(checkpoint)]) == 2
    assert "holds other data than when" in capsys.readouterr().err


def test_a_log_of_which_nothing_fits_says_so(log, capsys):
    path = log / "0-a.parquet"
    write_decisions(pq.read_table(path).slice(12), path)
    assert main(["monitor", str(log)]) == 2
    assert "no decision of 1 fits" in capsys.readouterr().err


def test_a_run_is_not_served_on_other_data(tmp_path, small_data, checkpoint, capsys):
    run = tmp_path / "phase3"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "artefact").symlink_to(checkpoint)
    said = {"format": 4, "phase": "phase3", "data": small_data.source, "fingerprint": "of then"}
    (run / "run.json").write_text(json.dumps(said))
    for given in ([], ["--data", small_data.source]):
        assert main(["serve", str(run), "--log", str(tmp_path / "log"), *given]) == 2
        assert "holds other data than" in capsys.readouterr().err


def table(minutes, units):
    rows = [
        (START + datetime.timedelta(minutes=m), f"r{i}", unit)
        for i, (m, unit) in enumerate(zip(minutes, units, strict=True))
    ]
    at, names, unit = zip(*rows, strict=True)
    return pa.table({"at": at, "request_id": names, "unit": unit})


def test_units_a_day_are_counted_once_over_the_whole_log():
    """The tail's rate counts whoever returns again and again."""
    count = 2 * MOST_DECISIONS
    minutes = [10 * 24 * 60 * i / (count - 1) for i in range(count)]
    assert new_units_a_day(table(minutes, [f"u{i % 50}" for i in range(count)])) == pytest.approx(5.0)
    assert new_units_a_day(table([0, 1440, 2880], ["a", None, None])) == pytest.approx(1.5)  # a request is its unit


def test_less_than_a_day_says_nothing():
    assert new_units_a_day(table([0, 13], ["a", "b"])) is None


@pytest.mark.parametrize("command", ["monitor", "replay"])
def test_ctrl_c_is_no_traceback(log, monkeypatch, command):
    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(shadow, f"_{command}", interrupted)
    assert main([command, str(log)]) == 130


def test_the_small_data_are_those_of_their_source(small_data):
    """Else every refusal above is for another reason."""
    assert open_dataset(small_data.source).fingerprint == small_data.fingerprint
