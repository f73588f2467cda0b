"""Build `clipart` from scratch: `python -m fusion_models.data.clipart_build WORK [OUT]`.

WORK keeps downloads, renderings and embeddings (a second run starts from them); OUT is the bundled folder.
Needs a Debian machine after `apt-get update`, and the packages of `requirements.txt` beside this file.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from .candidates import Indices, bm25, choose, picture_to_text, v1_scores
from .catalogue import Picture, read_catalogue, words
from .embed import (
    Array,
    Reduction,
    colour_histogram,
    ink_aspect,
    metadata_features,
    picture_embeddings,
    text_embeddings,
)
from .fetch import fetch_pictures
from .queries import Query, grade, make_queries
from .render import render_all
from .splits import (
    NEAR_COSINE,
    NEAR_PIXELS,
    SAME_COSINE,
    SAME_PIXELS,
    SPLITS,
    alike,
    assign_splits,
    components,
    groups,
    small_pixels,
)
from .write import fixed_width, thumbnail, write_table

SEED = 20261123
VISUAL_WIDTH, MIDDLE_WIDTH, TEXT_WIDTH = 64, 24, 96


def main(work: Path, out: Path) -> None:
    """Fetch, render, embed, split, judge, write."""
    torch.set_num_threads(2)
    generator = np.random.default_rng(SEED)
    pictures = read_catalogue(fetch_pictures(work))
    rendered = render_all([p.path for p in pictures], work / "png")
    drawn = [(p, f) for p, f in zip(pictures, rendered, strict=True) if f is not None]
    print(f"{len(pictures)} pictures read, {len(drawn)} rendered")
    pictures, files = [p for p, _ in drawn], [f for _, f in drawn]
    head, middle = _cached(work / "visual.npz", lambda: picture_embeddings(files))
    pixels = small_pixels(files)
    kept, pictures = once(pictures, components(alike(head, pixels, SAME_COSINE, SAME_PIXELS)))
    files, head, middle, pixels = [files[i] for i in kept], head[kept], middle[kept], pixels[kept]
    group = groups(pictures, alike(head, pixels, NEAR_COSINE, NEAR_PIXELS))
    split = assign_splits(pictures, group, generator)
    train = split == 0
    visual = np.concatenate(
        [
            Reduction(head[train], VISUAL_WIDTH)(head),
            Reduction(middle[train], MIDDLE_WIDTH)(middle),
            np.stack([colour_histogram(f) for f in files]),
        ],
        axis=1,
    )
    titles = text_embeddings([p.title for p in pictures])
    reduce_text = Reduction(titles[train], TEXT_WIDTH)
    productivity = Counter(p.author for p in pictures)
    metadata = np.stack(
        [metadata_features(p, productivity[p.author], ink_aspect(f)) for p, f in zip(pictures, files, strict=True)]
    )
    names = [f"clipart-{number:04d}" for number in generator.permutation(len(pictures))]
    queries = make_queries(pictures, group, split, generator)
    asked = text_embeddings([q.text for q in queries])
    suggested = picture_to_text(visual[:, :VISUAL_WIDTH], titles, group, train)
    catalogue = Catalogue(pictures, names, split, titles, suggested)
    print(f"{len(pictures)} kept, {len(queries)} queries, {group.max() + 1} groups")

    out.mkdir(parents=True, exist_ok=True)
    order = np.argsort(names)
    items = {
        "item_id": pa.array([names[i] for i in order]),
        "title": pa.array([pictures[i].title for i in order]),
        "visual": fixed_width(visual[order]),
        "text": fixed_width(reduce_text(titles)[order]),
        "metadata": fixed_width(metadata[order]),
        "image": pa.array([thumbnail(files[i]) for i in order], type=pa.binary()),
        "group": pa.array(group[order], type=pa.int32()),
    }
    write_table(out / "items.parquet", items)
    write_table(out / "queries.parquet", query_columns(queries, reduce_text(asked)))
    write_table(out / "judgements.parquet", judge(queries, asked, catalogue, generator))
    size = sum(f.stat().st_size for f in out.glob("*.parquet"))
    print(f"{size / 1e6:.2f} MB in {out}")


def query_columns(queries: list[Query], features: Array) -> dict[str, pa.Array]:
    """Columns of queries.parquet; `features`: `[Q, D]` of the queries' texts."""
    return {
        "query_id": pa.array([q.name for q in queries]),
        "text": pa.array([q.text for q in queries]),
        "subdomain": pa.array([q.subdomain for q in queries]),
        "split": pa.array([q.split for q in queries]),
        "features": fixed_width(features),
    }


def once(pictures: list[Picture], same: Indices) -> tuple[Indices, list[Picture]]:
    """The first picture of each set stored more than once, with the keywords of all: rows kept, entries."""
    keywords: dict[int, frozenset[str]] = {}
    for number, picture in zip(same.tolist(), pictures, strict=True):
        keywords[number] = keywords.get(number, frozenset()) | picture.keywords
    kept = np.sort(np.unique(same, return_index=True)[1])
    return kept, [replace(pictures[row], keywords=keywords[int(same[row])]) for row in kept]


@dataclass(frozen=True)
class Catalogue:
    """The N pictures that queries are asked of."""

    pictures: list[Picture]
    names: list[str]
    split: Indices
    titles: Array
    """`[N, D]`: embeddings of the titles."""
    suggested: Array
    """`[N, D]`: embeddings of the title that each picture suggests."""


def judge(
    queries: list[Query], asked: Array, catalogue: Catalogue, generator: np.random.Generator
) -> dict[str, pa.Array]:
    """The judgements' columns: every query against its candidates of its own split; `asked`: `[Q, D]`, their texts."""
    pictures, titles = catalogue.pictures, catalogue.titles
    title_words = [words(p.title) for p in pictures]
    pools = {name: np.flatnonzero(catalogue.split == number) for number, name in enumerate(SPLITS)}
    unit = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    rows: dict[str, list[object]] = {"query_id": [], "item_id": [], "label": [], "v1_score": []}
    for query, vector in zip(queries, unit, strict=True):
        pool = pools[query.split]
        v1 = v1_scores(bm25(query.words, [title_words[i] for i in pool]), titles[pool] @ vector)
        grades = np.array([grade(query.words, pictures[i].keywords) for i in pool], dtype=np.int64)
        for place in choose(v1, catalogue.suggested[pool] @ vector, grades, generator):
            rows["query_id"].append(query.name)
            rows["item_id"].append(catalogue.names[pool[place]])
            rows["label"].append(float(grades[place]))
            rows["v1_score"].append(float(v1[place]))
    floats = {"label", "v1_score"}
    return {key: pa.array(column, type=pa.float32() if key in floats else None) for key, column in rows.items()}


def _cached(path: Path, make: object) -> tuple[Array, Array]:
    if not path.exists():
        assert callable(make)
        np.savez(path, *make())
    stored = np.load(path)
    return stored["arr_0"], stored["arr_1"]


if __name__ == "__main__":
    beside = Path(__file__).resolve().parent.parent / "clipart"
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else beside)
