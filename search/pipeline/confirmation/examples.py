"""Queries that the finalist helps and hurts most, in both orders, and where V1's ranks go. Nothing here decides."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from fusion_models.data import RankingDataset
from fusion_models.files import whole
from fusion_models.quantities import Lists, Outputs
from search.run_store.csv_tables import write_csv
from search.run_store.folder import RunFolder

EACH_WAY = 3
"""Queries helped, and queries hurt."""
SHOWN = 6
"""First documents of each order."""
RANKS = 10
PICTURE_SIDE = 72


def write_examples(folder: RunFolder, data: RankingDataset, artefact: Outputs) -> None:
    """`examples.parquet` and `agreement.csv`, of the ranker that would be released, on the deciding split."""
    write_csv(rank_table(artefact), folder, "agreement.csv")
    gain = artefact.ndcg - artefact.lists.v1_ndcg
    table = example_table(data, artefact, gain)
    with whole(folder.path / "examples.parquet") as staging:
        table.to_parquet(staging, index=False)


def rank_table(outputs: Outputs) -> pd.DataFrame:
    """v1_rank, v2_rank (1 to 10, later), documents, share of that V1 rank's documents."""
    rows = []
    lists = outputs.lists
    v1, v2 = _ranks(lists, lists.v1), _ranks(lists, outputs.scores)
    valid = lists.valid
    labels = [*(str(i + 1) for i in range(RANKS)), "later"]
    for place in range(RANKS):
        at = valid & (v1 == place)
        to = np.minimum(v2[at], RANKS)
        counts = np.bincount(to, minlength=RANKS + 1)
        total = int(counts.sum())
        rows += [
            {"v1_rank": labels[place], "v2_rank": labels[i], "documents": int(n), "share": n / total if total else 0.0}
            for i, n in enumerate(counts)
        ]
    return pd.DataFrame(rows)


def example_table(data: RankingDataset, outputs: Outputs, gain: npt.NDArray[np.float64]) -> pd.DataFrame:
    """One row a query, order (V1, V2) and place: query_id, query, subdomain, gain, item_id, title, label, picture.

    Pictures are JPEG bytes. Without texts or pictures those columns are empty.
    """
    order = np.argsort(np.where(np.isfinite(gain), gain, 0.0), kind="stable")
    hurt = [int(i) for i in order[:EACH_WAY] if gain[i] < 0]
    helped = [int(i) for i in order[::-1][:EACH_WAY] if gain[i] > 0]
    lists = outputs.lists
    ranks = {"V1": _ranks(lists, lists.v1), "V2": _ranks(lists, outputs.scores)}
    rows: list[dict[str, Any]] = []
    for kind, chosen in (("helped", helped), ("hurt", hurt)):
        for i in chosen:
            query = int(lists.rows[i])
            items = data.judged_item[data.offset[query] : data.offset[query + 1]]
            for name, places in ranks.items():
                shown = np.argsort(places[i, : len(items)])[:SHOWN]
                for place, j in enumerate(shown):
                    rows.append(
                        {"kind": kind, "query_id": str(data.query_ids[query]), "query": _text(data, query)}
                        | {"subdomain": str(data.subdomain[query]), "gain": float(gain[i])}
                        | {
                            "order": name,
                            "place": place + 1,
                            "item": int(items[j]),
                            "label": float(lists.labels[i, j]),
                        }
                    )
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    wanted = table["item"].drop_duplicates().to_numpy()
    titles = dict(zip(wanted.tolist(), data.titles(wanted), strict=True))
    pictures = _pictures(data, wanted)
    table["item_id"] = [str(data.item_ids[i]) for i in table["item"]]
    table["title"] = [titles[i] or "" for i in table["item"]]
    table["picture"] = [pictures.get(i) for i in table["item"]]
    return table.drop(columns="item")


def _ranks(lists: Lists, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """`[Q, L]`: place of each document, 0 the first; padding stands last, ties in the order of the table."""
    values = np.where(lists.valid, scores, -np.inf)
    order = np.argsort(-values, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(order.shape[1]), order.shape), axis=1)
    return ranks.astype(np.int64)


def _text(data: RankingDataset, query: int) -> str:
    return "" if data.query_text is None else str(data.query_text[query] or "")


def _pictures(data: RankingDataset, items: npt.NDArray[np.int64]) -> Mapping[int, bytes]:
    """Item row -> a small JPEG of its thumbnail."""
    if data.schema.thumbnail is None:
        return {}
    out = {}
    for item, pixels in zip(items.tolist(), data.thumbnails(items).numpy(), strict=True):
        picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        file = io.BytesIO()
        picture.resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS).save(file, "JPEG", quality=82)
        out[item] = file.getvalue()
    return out
