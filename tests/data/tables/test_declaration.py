"""Which columns are modalities: `dataset.toml`, or the words of a program."""

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fusion_models.data import DataError, open_dataset
from fusion_models.data.sources import declared_modalities
from fusion_models.integrity import isolation_checks
from fusion_models.modalities import MODALITIES


def frames(*vectors, scalars=()):
    """Three frames of 60 queries with 4 items each, with vector and scalar columns of the names given."""
    random = np.random.default_rng(0)
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(240)]})
    for width, name in enumerate(vectors, start=2):
        items[name] = list(random.normal(size=(240, width)).astype("f4"))
    for name in scalars:
        items[name] = random.normal(size=240)
    judged = pd.DataFrame({"query_id": np.repeat([f"q{q}" for q in range(60)], 4), "item_id": items["item_id"]})
    judged["label"], judged["v1_score"] = random.integers(0, 3, 240), random.normal(size=240)
    return {"items": items, "queries": judged[["query_id"]].drop_duplicates(), "judgements": judged}


def written(folder: Path, tables, text: str | None = None) -> str:
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")
    if text is not None:
        (folder / "dataset.toml").write_text(text)
    return str(folder)


def test_what_is_declared_is_read_in_its_order_and_nothing_else(tmp_path):
    tables = frames("visual", "text", "metadata", "clicks")
    before = open_dataset(written(tmp_path, tables))
    assert before.schema.modalities == MODALITIES
    folder = written(tmp_path, tables, 'modalities = ["clicks", "text"]\nquantities = ["clicks"]\n')
    data = open_dataset(folder)
    assert data.schema.widths == {"clicks": 5, "text": 3}
    assert (data.schema.quantities, declared_modalities(folder)) == (("clicks",), ("clicks", "text"))
    assert list(data.gather(data.rows("train")[:2]).features) == ["clicks", "text"]
    assert data.fingerprint != before.fingerprint  # the same tables, read as something else


def test_saying_what_is_so_anyhow_changes_nothing(tmp_path):
    tables = frames(*MODALITIES)
    before = open_dataset(written(tmp_path, tables)).fingerprint
    folder = written(tmp_path, tables, 'modalities = ["visual", "text", "metadata"]')
    assert open_dataset(folder).fingerprint == before


def pictures(count, seed):
    """PNG files of noise, no two alike."""
    random = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file, "PNG")
        out.append(file.getvalue())
    return out


def test_pictures_and_titles_belong_to_whom_the_declaration_says(tmp_path):
    """A suspect of another name has SSIM, and copies of its pictures and titles are found."""
    tables = frames("photo", "review", "clicks")
    split = np.repeat(["train", "validation", "test"], (40, 10, 10))
    tables["queries"]["split"] = split
    held_out = np.repeat(split != "train", 4)
    images, titles = (
        np.array(pictures(240, 0), dtype=object),
        np.array([f"title {i}" for i in range(240)], dtype=object),
    )
    images[held_out], titles[held_out] = images[~held_out][:80], titles[~held_out][:80]
    tables["items"]["image"], tables["items"]["title"] = images, titles
    text = 'modalities = ["photo", "review", "clicks"]\n'
    data = open_dataset(written(tmp_path, tables, f'{text}pictures = "photo"\ntitles = "review"\n'))
    assert data.schema.shows("photo")
    assert not data.schema.shows("review")
    found = {check.name: check for check in isolation_checks(data, "validation")}
    assert [found[f"isolation of validation: {name} (near-duplicates)"].value for name in ("photo", "review")] == [0, 0]
    usual = open_dataset(written(tmp_path, tables, text))
    assert not any(usual.schema.shows(name) for name in usual.schema.modalities)
    assert usual.fingerprint != data.fingerprint


def test_a_modality_may_come_as_scalar_columns(tmp_path):
    tables = frames("text", scalars=("clicks.rate", "clicks.views"))
    data = open_dataset(written(tmp_path, tables, 'modalities = ["text", "clicks"]'))
    assert data.schema.widths == {"text": 2, "clicks": 2}
    assert data.schema.quantities == ("clicks",)
    assert [column["name"] for column in data.statistics.encodings["clicks"]] == ["clicks.rate", "clicks.views"]


def test_a_program_says_it_in_words():
    tables = frames("text", "clicks")
    data = open_dataset(**tables, modalities=("text", "clicks"), quantities=("clicks",))
    again = open_dataset(data.source)
    assert again.schema == data.schema
    assert data.schema.quantities == ("clicks",)
    with pytest.raises(DataError, match="beside a source"):
        open_dataset("planted", modalities=("text", "visual"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('modalities = ["text"]', "two modalities are needed at the least, got text"),
        ('modalities = ["text", "text"]', "'text' is named twice"),
        ('modalities = ["text", "my clicks"]', "'my clicks' cannot be a modality"),
        ('modalities = ["text", "context"]', "'context' cannot be a modality: the name means something else"),
        ('modalities = "text"', "is not a list of names"),
        ('modality = ["text"]', "the key 'modality' is unknown"),
        ('modalities = ["text", "clicks"]\nquantities = ["price"]', "quantities names 'price'"),
        ('modalities = ["text", "clicks"]\npictures = "photo"', "pictures names 'photo'"),
        ('modalities = ["text", "clicks"]\ntitles = ["text"]', "titles = ['text'] is not a name"),
        ("modalities = [", "dataset.toml: cannot be read"),
        (
            'modalities = ["text", "sound"]',
            "column 'sound': missing, and no scalar columns sound.<name>",
        ),
    ],
)
def test_a_declaration_that_cannot_be_is_refused_in_one_line(tmp_path, text, said):
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        open_dataset(written(tmp_path, frames("text", "clicks"), text))
    assert "\n" not in str(caught.value)


def test_without_a_declaration_the_error_says_how_to_declare(tmp_path):
    with pytest.raises(DataError, match=r'say in dataset.toml .*: modalities = \["text", "clicks"\]'):
        open_dataset(written(tmp_path, frames("text", "clicks")))
