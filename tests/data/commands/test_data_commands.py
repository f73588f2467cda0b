"""`python -m fusion_models.data`: check with its doubts, convert, planted."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

from fusion_models.data import open_dataset
from fusion_models.data.__main__ import Check, Convert, Embed, Planted, main, print_facts
from fusion_models.data.commands import card
from fusion_models.data.commands.card import data_card

Columns = dict[str, dict[str, Any]]
Write = Callable[[Columns], str]


def test_the_flags_are_frozen() -> None:
    commands = (Check, Convert, Embed, Planted)
    flags = {command.__name__: [field.name for field in dataclasses.fields(command)] for command in commands}
    assert flags == {
        "Check": ["path", "cache", "json"],
        "Convert": ["flat", "out", "modalities"],
        "Embed": ["path", "image", "title", "query", "out", "batch", "device"],
        "Planted": ["out", "preset", "dial"],
    }


def doubts(source: str) -> str:
    return "\n".join(data_card(open_dataset(source)).doubts)


def test_a_script_gets_the_card_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "planted?queries=160&candidates=8", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert set(card) == {"facts", "doubts"}
    assert card["facts"]["candidates a query"] == "8 to 8, median 8"


def test_check_prints_sizes_and_doubts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "planted?queries=160&visual_offset=1&text_offset=1&metadata_offset=1"]) == 0
    printed = capsys.readouterr().out
    assert "train 70, validation 30, test 60" in printed
    assert "1,920, 1,920" in printed
    assert "- 60 test queries: the gates of phase 3 ask for 500." in printed
    assert "mean near zero" not in printed


def test_a_healthy_dataset_of_size_has_no_doubts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "planted?visual_offset=1&text_offset=1&metadata_offset=1"]) == 0
    assert "no doubts" in capsys.readouterr().out


def test_the_card_doubts_pictures_that_are_all_the_same(columns: Columns, write: Write) -> None:
    def picture(grey: int) -> bytes:
        out = io.BytesIO()
        Image.new("RGB", (8, 8), (grey, grey, grey)).save(out, "PNG")
        return out.getvalue()

    said = "The pictures of the training documents are all the same"
    columns["items"]["image"] = [picture(40)] * 6
    assert said in doubts(write(columns))
    columns["items"]["image"] = [picture(40 * n) for n in range(6)]
    assert said not in doubts(write(columns))


def test_the_card_doubts_leaks_constants_and_blanks(columns: Columns, write: Write) -> None:
    score = dict(zip(columns["judgements"]["item_id"], columns["judgements"]["v1_score"], strict=True))
    columns["items"]["visual"] = [[score[f"i{n}"], 1.0, 0.5 * n] for n in range(6)]
    columns["items"]["text"] = [[1.0, 2.0]] * 6
    columns["items"]["metadata"] = [[(-1.0) ** n] for n in range(6)]
    for n, item in enumerate(columns["judgements"]["item_id"]):
        columns["judgements"]["v1_score"][n] = score[item]
    said = doubts(write(columns))
    assert "visual feature 0 is V1's score (correlation +1.0000): a leak." in said
    assert "1 of 3 visual features are constant" in said
    assert "text is constant over the training documents: it can tell nothing." in said
    assert "1 of 2 test items are also judged in training" in said
    assert "test queries: the gates of phase 3 ask for 500" in said
    assert "1 of 4 queries have a single candidate" in said


@pytest.mark.parametrize("fill", [9.97e36, -9999.0, 1e20])
def test_the_card_doubts_a_fill_value_and_no_heavy_tail(columns: Columns, write: Write, fill: float) -> None:
    generator = np.random.default_rng(0)
    items = len(columns["items"]["item_id"])
    columns["items"]["visual"] = generator.normal(size=(items, 4)).tolist()
    columns["items"]["metadata"] = np.exp(2.0 * generator.normal(size=(items, 2))).tolist()
    assert "fill value" not in doubts(write(columns))
    columns["items"]["visual"][0][3] = fill
    said = doubts(write(columns))
    assert f"visual feature 3 is {fill:.6g} in " in said
    assert "missing_visual" in said


def test_the_card_doubts_a_v1_that_is_upside_down_and_large_labels(columns: Columns, write: Write) -> None:
    labels = columns["judgements"]["label"]
    columns["judgements"]["v1_score"] = [-label for label in labels]
    labels[7] = 40.0
    said = doubts(write(columns))
    assert "is its sign the right one?" in said
    assert "The largest label is 40: a gain of 2^label" in said
    columns["judgements"]["v1_score"] = [1.0] * 9
    assert "V1's scores (or the labels) do not vary" in doubts(write(columns))


def test_convert_then_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    flat = {
        "query_id": [f"q{n // 4}" for n in range(400)],
        "item_id": [f"i{n}" for n in range(400)],
        "label": random.integers(0, 3, 400).astype(float),
        "v1_score": random.normal(size=400),
    } | {name: random.normal(size=(400, 2)).tolist() for name in ("visual", "text", "metadata")}
    pq.write_table(pa.table(flat), tmp_path / "flat.parquet")
    assert main(["convert", str(tmp_path / "flat.parquet"), str(tmp_path / "out")]) == 0
    assert "400 items, 100 queries, 400 judgements" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "out"), "--cache", str(tmp_path / "elsewhere")]) == 0
    assert "400, 400" in capsys.readouterr().out
    assert (tmp_path / "elsewhere" / "arrays").is_dir()


def test_planted_writes_tables_and_truth_and_never_over_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["planted", str(tmp_path / "out"), "--preset", "healthy", "--dial", "queries=50", "--dial", "seed=2"]
    assert main(command) == 0
    assert open_dataset(tmp_path / "out").counts["queries"] == 50
    assert (tmp_path / "out" / "truth.json").exists()
    capsys.readouterr()
    assert main(command) == 1
    assert "items.parquet is already there" in capsys.readouterr().err


def test_an_error_is_a_line_and_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "nothing")]) == 1
    assert capsys.readouterr().err.startswith("error: no dataset at")


def test_a_category_s_constant_slot_for_other_values_is_no_doubt(columns: Columns, write: Write) -> None:
    columns["items"]["metadata.brand"] = ["north", "south", "north", "south", "north", "south"]
    data = open_dataset(write(columns))
    assert len(np.unique(data.item_features["metadata"][:, -1])) == 1  # nobody is `other`
    assert "metadata features are constant" not in doubts(data.source)
    columns["items"]["metadata.size"] = [1.0] * 6
    assert "1 of 8 metadata features are constant over the training documents" in doubts(write(columns))


def test_the_card_says_how_models_read_v1_and_what_long_lists_cost(
    columns: Columns, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "float32" not in doubts(write(columns))
    columns["judgements"]["v1_score"] = [s + 1e9 * (s > 0.5) for s in columns["judgements"]["v1_score"]]
    assert "models read them as ranks within the query" in doubts(write(columns))
    monkeypatch.setattr(card, "LONG_LIST", 2)
    assert "2 queries have more than 2 candidates (up to 3): LambdaMART is trained without them" in doubts(
        write(columns)
    )


def test_the_card_says_the_weights(columns: Columns, write: Write) -> None:
    facts = dict(data_card(open_dataset(write(columns))).facts)
    assert facts["query weights"] == "1 each"
    columns["queries"]["weight"] = [0.5, 1.0, 2.0, 4.0]
    assert dict(data_card(open_dataset(write(columns))).facts)["query weights"] == "0.5 to 4"


def test_a_flat_table_of_parts_with_text_that_is_not_utf8(tmp_path: Path, columns: Columns) -> None:
    flat = tmp_path / "flat.parquet"
    flat.mkdir()
    rows = {"query_id": ["a", "b"], "item_id": ["x", "y"], "label": [1.0, 0.0], "v1_score": [1.0, 2.0]}
    rows |= {name: [[1.0], [2.0]] for name in ("visual", "text", "metadata")}
    raw = pa.array([b"ok", b"caf\xe9"], pa.binary())
    table = pa.table(rows).append_column("title", pa.Array.from_buffers(pa.string(), 2, raw.buffers()))
    pq.write_table(table.slice(0, 1), flat / "0.parquet")
    pq.write_table(table.slice(1, 1), flat / "1.parquet")
    assert main(["convert", str(flat), str(tmp_path / "out")]) == 1
    assert not list((tmp_path / "out").iterdir())
    table = table.drop_columns("title").append_column("query_weight", pa.array([1.0, 2.0]))
    table = table.rename_columns([n.replace("query_weight", "weight") for n in table.schema.names])
    (flat / "1.parquet").unlink()
    pq.write_table(table, flat / "0.parquet")
    assert main(["convert", str(flat), str(tmp_path / "out")]) == 0
    assert pq.read_table(tmp_path / "out" / "queries.parquet")["weight"].to_pylist() == [1.0, 2.0]


LONG = ["\x1b[31mred\x1b[2J", *(f"a rather long name of a subdomain {n} of the shop" for n in range(3))]


def test_the_card_is_whole_in_a_pipe(columns: Columns, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    columns["queries"]["subdomain"] = LONG
    source = write(columns)
    assert main(["check", source]) == 0
    printed = capsys.readouterr().out
    facts = dict(data_card(open_dataset(source)).facts)
    for what, value in facts.items():
        (line,) = [line for line in printed.splitlines() if line.startswith(f"{what}  ")]
        assert line.endswith(value.replace("\x1b", "\\x1b"))
    assert "\x1b" not in printed


def test_the_card_is_whole_in_a_terminal(columns: Columns, write: Write) -> None:
    columns["queries"]["subdomain"] = LONG
    facts = data_card(open_dataset(write(columns))).facts
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    print_facts(facts, console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    joined = "".join("".join(lines).split())
    for _, value in facts:
        shown = "".join(value.replace("\x1b", "\\x1b").split())
        assert shown[:20] in joined
    assert "…" not in joined
    assert "\x1b" not in joined


@pytest.mark.parametrize("out", ["/dev/null/x", "/proc/x"])
def test_planted_where_nothing_can_be_written_is_one_line(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["planted", out, "--dial", "queries=160"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: '{out}' cannot be written (")
    assert said.count("\n") == 1
