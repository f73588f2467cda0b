"""`python -m fusion_models.data embed`: a dataset of pictures and words becomes one of vectors."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import embedding_models
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusion_models.data import DataError, open_dataset
from fusion_models.data.__main__ import main
from fusion_models.data.commands import embed
from fusion_models.data.commands.card import data_card
from fusion_models.data.commands.embed import Models, embed_dataset
from fusion_models.data.embedding import parts, vectors
from fusion_models.data.embedding.raw import PictureOpener
from fusion_models.data.sources import located
from fusion_models.work import heard_by

Columns = dict[str, dict[str, Any]]
Write = Callable[[Columns], str]

COLOURS = [(10, 200, 30), (250, 0, 0), (0, 250, 5), (80, 80, 80), (255, 255, 255), (1, 2, 3)]
TITLES = [f"thing {n}" for n in range(6)]


@pytest.fixture
def raw(columns: Columns) -> Columns:
    """Pictures, titles and query texts; `metadata` alone is a vector already."""
    del columns["items"]["visual"], columns["items"]["text"]
    columns["items"]["image"] = [embedding_models.png(colour) for colour in COLOURS]
    columns["items"]["title"] = list(TITLES)
    columns["queries"]["text"] = list(columns["queries"]["query_id"])
    return columns


@pytest.fixture
def picture_model(tmp_path: Path) -> str:
    return embedding_models.mean_colour(tmp_path / "pictures" / "model.onnx")


@pytest.fixture
def word_model(tmp_path: Path) -> str:
    numbers = {title: float(n) for n, title in enumerate(TITLES)}
    return embedding_models.numbered_words(tmp_path / "words" / "model.onnx", numbers | {"cat": 7.0, "sun": 9.0})


def expected(colours: list[tuple[int, ...]]) -> np.ndarray:
    """What `mean_colour` makes of pictures of one colour: ImageNet's standardising, and no more."""
    scaled = np.array(colours, dtype=np.float64) / 255
    return np.asarray((scaled - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225])


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_pictures_titles_and_queries_become_vectors_in_a_new_folder(
    raw: Columns, write: Write, picture_model: str, word_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(write(raw))
    before = digests(source)
    asked = ["embed", str(source), "--visual", picture_model, "--text", word_model, "--query", word_model]
    assert main([*asked, "--batch", "4"]) == 0
    printed = capsys.readouterr().out
    assert f"items: visual has 3 features a row, of image, by {picture_model}." in printed
    assert "no preprocessor_config.json lies beside model.onnx: pictures are cropped to 4 x 4" in printed
    assert digests(source) == before
    out = source.with_name("dataset-embedded")
    assert not (out.parent / ".dataset-embedded.parts").exists()
    assert main(["check", str(out)]) == 0

    data, old = open_dataset(out), pq.read_table(source / "items.parquet")
    np.testing.assert_allclose(data.item_features["visual"], expected(COLOURS), atol=1e-5)
    np.testing.assert_array_equal(data.item_features["text"], np.arange(6, dtype=np.float32)[:, None])
    assert data.schema.query == 1
    new = pq.read_table(out / "items.parquet")
    assert new["image"].to_pylist() == old["image"].to_pylist()
    assert new["title"].to_pylist() == TITLES
    assert new["metadata"].to_pylist() == old["metadata"].to_pylist()
    assert digests(out)["judgements.parquet"] == before["judgements.parquet"]
    said = json.loads((out / "embedding.json").read_text())
    assert [(made["column"], made["width"], made["missing"]) for made in said["made"]] == [
        ("visual", 3, 0),
        ("text", 1, 0),
        ("features", 1, 0),
    ]


def test_what_is_missing_is_the_training_mean_a_mask_and_a_doubt(
    raw: Columns, write: Write, picture_model: str, word_model: str, tmp_path: Path
) -> None:
    raw["items"]["image"][3] = None
    raw["items"]["title"][5] = "  "
    raw["queries"]["text"][2] = None
    said = embed_dataset(located(write(raw)), tmp_path / "out", Models(picture_model, word_model, word_model))
    assert any(s.startswith("1 of 6 items have none: the training mean stands in, and the column") for s in said)
    data = open_dataset(tmp_path / "out")
    # judged in training: cat has items 0, 1 and 4, dog 2, 0 and 3; item 3 has no picture
    counted = expected([COLOURS[n] for n in (0, 1, 4, 2, 0)]).mean(axis=0)
    np.testing.assert_allclose(data.item_features["visual"][3], counted, atol=1e-5)
    np.testing.assert_allclose(data.statistics.mean["visual"], counted, atol=1e-5)
    assert data.item_features["text"][5, 0] == pytest.approx(np.mean([0, 1, 4, 2, 0, 3]))
    items, queries = (pq.read_table(tmp_path / "out" / f"{name}.parquet") for name in ("items", "queries"))
    assert items["missing_visual"].to_pylist() == [n == 3 for n in range(6)]
    assert items["missing_text"].to_pylist() == [n == 5 for n in range(6)]
    assert queries["missing_features"].to_pylist() == [False, False, True, False]
    doubts = data_card(data).doubts
    assert (
        "1 of 6 items have no visual of their own: another vector stands in (column missing_visual), and counts in all "
        "that is measured of visual." in doubts
    )
    assert any(doubt.startswith("1 of 4 queries have no features of their own") for doubt in doubts)
    assert any(doubt.startswith("1 of 6 items have no picture") for doubt in doubts)


def test_the_door_reads_a_mask_as_true_and_false(columns: Columns, write: Write) -> None:
    columns["items"]["missing_text"] = [0, 1, 1, 0, 0, 0]
    assert open_dataset(write(columns)).counts["items_missing_text"] == 2
    columns["items"]["missing_text"][4] = 2
    with pytest.raises(
        DataError, match=r"items.parquet, column 'missing_text', row 4: 2 is neither true nor false. Write true where"
    ):
        open_dataset(write(columns))
    columns["items"]["missing_text"] = [True, None, True, True, True, True]
    with pytest.raises(DataError, match="column 'missing_text', row 1: the value is missing"):
        open_dataset(write(columns))


def test_paths_are_read_beside_the_tables_and_one_that_leads_nowhere_is_missing(
    raw: Columns, write: Write, picture_model: str, tmp_path: Path
) -> None:
    (tmp_path / "dataset" / "pictures").mkdir(parents=True)
    for n, data in enumerate(raw["items"]["image"]):
        (tmp_path / "dataset" / "pictures" / f"{n}.png").write_bytes(data)
    paths = [f"pictures/{n}.png" for n in range(6)]
    del raw["items"]["title"]
    raw["items"]["text"] = list(TITLES)
    models = Models(image=picture_model)
    whole = embed_with(raw, write, tmp_path / "whole", models)
    raw["items"]["image"] = [str(tmp_path / "dataset" / paths[0]), *paths[1:4], "pictures/none.png", ""]
    said = embed_dataset(located(write(raw)), tmp_path / "out", models)
    assert "1 paths lead to no picture, such as pictures/none.png" in said
    opener = PictureOpener(
        located(tmp_path / "dataset")
    )  # a thumbnail is read so, also of a part finished before a stop
    assert opener.read("pictures/none.png") is None
    assert opener.lost == ["pictures/none.png"]
    assert "dataset.toml names the modalities: visual, metadata" not in said
    raw["items"]["image"] = [{"bytes": None, "path": path} for path in paths]
    third = embed_with(raw, write, tmp_path / "third", models)
    items = pq.read_table(tmp_path / "out" / "items.parquet")
    assert items["missing_visual"].to_pylist() == [False] * 4 + [True] * 2
    first, second = pq.read_table(whole / "items.parquet"), pq.read_table(third / "items.parquet")
    assert first["visual"].to_pylist() == second["visual"].to_pylist()
    assert items["visual"].to_pylist()[:4] == first["visual"].to_pylist()[:4]


def embed_with(columns: Columns, write: Write, out: Path, models: Models) -> Path:
    embed_dataset(located(write(columns)), out, models)
    return out


def test_thumbnails_of_pictures_behind_paths_are_those_of_their_bytes(
    raw: Columns, write: Write, picture_model: str, word_model: str, tmp_path: Path
) -> None:
    raw["items"]["image"] = [embedding_models.png((9 * n, 0, 200), (50 + n, 20)) for n in range(6)]
    models = Models(picture_model, word_model)
    of_bytes = open_dataset(embed_with(raw, write, tmp_path / "bytes", models))
    for n, data in enumerate(raw["items"]["image"]):
        (tmp_path / f"{n}.png").write_bytes(data)
    raw["items"]["image"] = [str(tmp_path / f"{n}.png") for n in range(6)]
    of_paths = open_dataset(embed_with(raw, write, tmp_path / "paths", models))
    assert (of_bytes.thumbnails(np.arange(6)) == of_paths.thumbnails(np.arange(6))).all()


def test_words_may_lie_in_the_column_that_the_vectors_take(
    raw: Columns, write: Write, word_model: str, tmp_path: Path
) -> None:
    raw["items"]["visual"] = raw["items"]["metadata"]
    raw["items"]["text.length"] = [float(len(title)) for title in TITLES]
    raw["items"]["text"] = list(TITLES)
    del raw["items"]["title"], raw["items"]["image"], raw["items"]["metadata"]
    said = embed_dataset(located(write(raw)), tmp_path / "out", Models(title=word_model))
    assert said[-1] == "dataset.toml names the modalities: visual, text"
    data = open_dataset(tmp_path / "out")
    assert data.titles([2]) == ["thing 2"]
    assert data.schema.width("text") == 2  # its length stays beside it
    again = embed_dataset(located(tmp_path / "out"), tmp_path / "again", Models(title=word_model))
    assert again[0] == f"items: text has 1 features a row, of title, by {word_model}, in place of what was there"
    assert data.item_features["text"][:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_progress_is_told_in_rows(raw: Columns, write: Write, picture_model: str, tmp_path: Path) -> None:
    raw["items"]["text"] = raw["items"]["metadata"]
    heard: list[tuple[str, int, int]] = []
    with heard_by(lambda *said: heard.append(said)):
        embed_dataset(located(write(raw)), tmp_path / "out", Models(image=picture_model, batch=2))
    assert [done for what, done, total in heard if what == "visual: embedding image"] == [0, 2, 4, 6]


def test_ctrl_c_says_that_nothing_is_lost(
    raw: Columns, write: Write, word_model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(embed, "word_encoder", interrupted)
    assert main(["embed", write(raw), "--text", word_model]) == 130
    assert capsys.readouterr().err.startswith("stopped: what was finished is kept")


class Stopped(Exception):
    """The power fails."""


class Counting:
    """An encoder that counts its rows, and fails before some batch."""

    identity, notes = "counting", ()

    def __init__(self, fails_at: int | None = None) -> None:
        self.rows: list[str] = []
        self._fails_at = fails_at

    def encode(self, things: list[str]) -> np.ndarray:
        if self._fails_at is not None and len(self.rows) >= self._fails_at:
            raise Stopped
        self.rows += things
        return np.array([[float(len(t)), float(ord(t[-1]))] for t in things], dtype=np.float32)


@pytest.fixture
def in_parts_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (parts, vectors):
        monkeypatch.setattr(module, "PART_ROWS", 2)


@pytest.mark.usefixtures("in_parts_of_two")
def test_what_was_finished_is_not_made_twice(
    raw: Columns, write: Write, word_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw["items"]["title"][1] = None
    raw["items"]["visual"] = raw["items"]["metadata"]
    source, models = write(raw), Models(title=word_model)

    def run(encoder: Counting, out: str) -> None:
        monkeypatch.setattr(embed, "word_encoder", lambda *_: encoder)
        embed_dataset(located(source), tmp_path / out, models)

    cut = Counting(fails_at=3)
    with pytest.raises(Stopped):
        run(cut, "out")
    assert not (tmp_path / "out").exists()
    assert len(list((tmp_path / ".out.parts").glob("*/*"))) == 2
    assert cut.rows == TITLES[:1] + TITLES[2:4]
    (half,) = (tmp_path / ".out.parts").glob("*")
    (half / ".000002.npz.0123abcd").write_bytes(b"what a killed process leaves")
    rest = Counting()
    run(rest, "out")
    assert rest.rows == TITLES[4:]
    run(Counting(), "at-once")
    for name in ("items", "queries", "judgements"):
        resumed, at_once = (tmp_path / out / f"{name}.parquet" for out in ("out", "at-once"))
        assert resumed.read_bytes() == at_once.read_bytes()
    assert not (tmp_path / ".out.parts").exists()


@pytest.mark.usefixtures("in_parts_of_two")
def test_parts_of_another_model_or_table_are_not_taken(
    raw: Columns, write: Write, word_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw["items"]["visual"] = raw["items"]["metadata"]
    source = write(raw)
    other = shutil.copytree(Path(word_model).parent, tmp_path / "other") / "model.onnx"

    def rows(model: str, fails_at: int | None = None) -> int:
        encoder = Counting(fails_at)
        monkeypatch.setattr(embed, "word_encoder", lambda *_: encoder)
        with pytest.raises(Stopped):
            embed_dataset(located(source), tmp_path / "out", Models(title=model))
        return len(encoder.rows)

    assert rows(word_model, 2) == 2
    assert rows(word_model, 2) == 2  # went on: 4 of 6 are finished
    assert rows(str(other), 4) == 4
    raw["items"]["title"][0] = "another"
    write(raw)
    assert rows(word_model, 4) == 4


@pytest.mark.parametrize(
    ("change", "models", "said"),
    [
        ({}, {}, "nothing is asked for. Give a model"),
        ({"image": None}, {"image": "M"}, "items.parquet, column 'image': missing, and nothing to embed without it"),
        ({}, {"image": "gone.onnx"}, "no model at 'gone.onnx'. Give the path of a .onnx file."),
        ({}, {"image": "./gone"}, "no model at './gone'. Give a folder that is there"),
        ({"image": [b""] * 6}, {"image": "M"}, "items.parquet, column 'image': no row has anything to embed."),
        (
            {"image": [b"", None, None, None, None, embedding_models.png((1, 1, 1))]},
            {"image": "M"},
            "column 'image': row 0 has nothing to embed, and no row of the training split has",
        ),
        (
            {"image": [*[embedding_models.png((1, 1, 1))] * 4, b"no picture", None]},
            {"image": "M"},
            "items.parquet, column 'image', row 4: 10 bytes that are no picture",
        ),
        ({"title": None}, {"title": "W"}, "items.parquet, column 'title': missing, and nothing to embed"),
        ({"title": [1.5] * 6}, {"title": "W"}, "items.parquet, column 'title', row 0: 1.5 is of type double, not text"),
        ({"title": list(TITLES)}, {"title": "M"}, "model.onnx takes x tensor\\(float\\).*, and no text."),
        ({}, {"image": "W"}, "model.onnx takes words tensor\\(string\\).*, and no pictures."),
        ({}, {"image": "M#pooled"}, "model.onnx has no output 'pooled'. It has y."),
    ],
)
def test_a_mistake_is_one_line(
    change: dict[str, Any],
    models: dict[str, str],
    said: str,
    raw: Columns,
    write: Write,
    picture_model: str,
    word_model: str,
    tmp_path: Path,
) -> None:
    for name, value in change.items():
        raw["items"][name] = value
        if value is None:
            del raw["items"][name]
    raw["items"]["text"] = raw["items"].get("text", raw["items"]["metadata"])
    named = {k: v.replace("M", picture_model).replace("W", word_model) for k, v in models.items()}
    with pytest.raises(DataError, match=said) as caught:
        embed_dataset(located(write(raw)), tmp_path / "out", Models(**named))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_not_written_into(
    raw: Columns, write: Write, word_model: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = write(raw)
    assert main(["embed", source, "--text", word_model, "--out", source]) == 1
    assert "is already there. Name a new folder with --out" in capsys.readouterr().err
    assert main(["embed", source, "--text", word_model, "--out", "s3://bucket/out"]) == 1
    assert main(["embed", source, "--text", word_model, "--batch", "0"]) == 1
    assert "--batch 0 is no number of rows." in capsys.readouterr().err


def test_a_modality_that_is_not_declared_is_not_made(
    raw: Columns, write: Write, word_model: str, tmp_path: Path
) -> None:
    raw["items"]["clicks"] = raw["items"]["visual"] = raw["items"]["metadata"]
    source = write(raw)
    (Path(source) / "dataset.toml").write_text('modalities = ["visual", "clicks"]\n')
    with pytest.raises(DataError, match=r"dataset.toml: the dataset declares visual, clicks, and no text. Add .text."):
        embed_dataset(located(source), tmp_path / "out", Models(title=word_model))


@pytest.mark.parametrize("words", ["title", "review"])
def test_modalities_of_other_names_are_made(
    words: str, raw: Columns, write: Write, picture_model: str, word_model: str, tmp_path: Path
) -> None:
    raw["items"]["clicks"] = raw["items"].pop("metadata")
    raw["items"][words] = raw["items"].pop("title")
    source = Path(write(raw))
    (source / "dataset.toml").write_text('modalities = ["photo", "review", "clicks"]\n')
    asked = ["embed", str(source), "--visual", f"photo={picture_model}", "--text", f"review={word_model}"]
    assert main([*asked, "--out", str(tmp_path / "out")]) == 0
    data = open_dataset(tmp_path / "out")
    assert tuple(data.item_features) == ("photo", "review", "clicks")
    assert data.schema.shows("photo")
    assert data.schema.titled == "review"
    np.testing.assert_allclose(data.item_features["photo"], expected(COLOURS), atol=1e-5)
    np.testing.assert_array_equal(data.item_features["review"], np.arange(6, dtype=np.float32)[:, None])
    assert data.titles([2]) == ["thing 2"]
    for models, said in (
        (
            Models(image=picture_model),
            r"and no visual. Add .visual. to its modalities, name one of them as",
        ),
        (Models(f"photo={picture_model}", f"photo={word_model}"), r"pictures and titles would both be photo"),
    ):
        with pytest.raises(DataError, match=said):
            embed_dataset(located(source), tmp_path / "other", models)


def test_a_path_with_an_equals_sign_is_a_path() -> None:
    assert embed.named("./a=b/model.onnx", "visual") == ("visual", "./a=b/model.onnx")
    assert embed.named("photo=./a=b/model.onnx", "visual") == ("photo", "./a=b/model.onnx")
    assert embed.named("clip-ViT-B-32", "visual") == ("visual", "clip-ViT-B-32")


def test_shards_and_partitions_keep_their_layout_or_become_one_file(
    raw: Columns, tmp_path: Path, word_model: str
) -> None:
    raw["items"]["visual"] = raw["items"]["metadata"]
    folder = tmp_path / "sharded"
    tables = {name: pa.table(columns) for name, columns in raw.items()}
    for split in ("train", "validation", "test"):
        kept = tables["queries"].filter(pa.compute.equal(tables["queries"]["split"], split)).drop_columns("split")
        path = folder / "queries.parquet" / f"split={split}" / "part-0.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(kept, path)
    for first in (0, 4):
        pq.write_table(tables["items"].slice(first, 4), folder / f"items-0000{first}-of-2.parquet")
    pq.write_table(tables["judgements"], folder / "judgements.parquet")
    embed_dataset(located(folder), tmp_path / "out", Models(title=word_model))
    data = open_dataset(tmp_path / "out")
    assert data.item_features["text"][:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert (tmp_path / "out" / "queries.parquet" / "split=test" / "part-0.parquet").exists()
    embed_dataset(located(folder), tmp_path / "queried", Models(title=word_model, query=word_model))
    data = open_dataset(tmp_path / "queried")
    assert [len(data.rows(split)) for split in ("train", "validation", "test")] == [2, 1, 1]
