"""A quick trial of the bundled tables: is there signal in each modality, and in all three together?

`python -m fusion_models.data.clipart_build.trial [FOLDER]` trains a small product-of-projections MLP on every subset of
modalities, three seeds each, and prints nDCG@10 on the test split. It reads the tables alone.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.nn import functional

MODALITIES = ("visual", "text", "metadata")
SEEDS, EPOCHS, WIDTH = 3, 25, 64


@dataclass(frozen=True)
class Lists:
    """Padded lists: item row (-1 where padded), label, V1's score, `[Q, L]`; the query's features `[Q, D]`."""

    item: Tensor
    label: Tensor
    v1: Tensor
    query: Tensor
    subdomain: list[str]


class Matcher(nn.Module):
    """Each modality's projection times the query's, side by side, through one hidden layer to a score."""

    def __init__(self, widths: list[int], query: int, v1: bool) -> None:
        super().__init__()
        self.items = nn.ModuleList(nn.Linear(width, WIDTH) for width in widths)
        self.asks = nn.ModuleList(nn.Linear(query, WIDTH) for _ in widths)
        self.head = nn.Sequential(
            nn.Linear(2 * WIDTH * len(widths) + v1, WIDTH), nn.ReLU(), nn.Dropout(0.3), nn.Linear(WIDTH, 1)
        )

    def forward(self, features: list[Tensor], query: Tensor, v1: Tensor | None) -> Tensor:
        parts = []
        for project, ask, x in zip(self.items, self.asks, features, strict=True):
            shown = functional.dropout(project(x), 0.2, self.training)
            parts += [shown * ask(query).unsqueeze(1), shown]
        if v1 is not None:
            parts.append(v1.unsqueeze(-1))
        scores: Tensor = self.head(torch.cat(parts, -1)).squeeze(-1)
        return scores


def ndcg(scores: npt.NDArray[np.float64], labels: npt.NDArray[np.float64], k: int = 10) -> float:
    """nDCG@k of one list: gain 2^label - 1, ties averaged over their block; NaN without a relevant picture."""
    gains = 2.0**labels - 1.0
    discount = np.where(np.arange(len(gains)) < k, 1.0 / np.log2(np.arange(len(gains)) + 2.0), 0.0)
    ideal = float(np.sort(gains)[::-1] @ discount)
    order = np.argsort(-scores, kind="stable")
    _, block = np.unique(-scores[order], return_inverse=True)
    mean = np.bincount(block, gains[order]) / np.bincount(block)
    return float(mean[block] @ discount) / ideal if ideal > 0 else float("nan")


def mean_ndcg(scores: Tensor, lists: Lists) -> npt.NDArray[np.float64]:
    """nDCG@10 of every query, `[Q]`."""
    pairs = zip(scores.double().numpy(), lists.label.double().numpy(), (lists.item >= 0).numpy(), strict=True)
    return np.array([ndcg(s[valid], y[valid]) for s, y, valid in pairs])


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Lists]]:
    """Standardised item features by modality, `[N, D]`, and the lists of each split."""
    items = pq.read_table(folder / "items.parquet").to_pydict()
    queries = pq.read_table(folder / "queries.parquet").to_pydict()
    judged = pq.read_table(folder / "judgements.parquet").to_pydict()
    row = {name: number for number, name in enumerate(items["item_id"])}
    by_query: dict[str, list[tuple[int, float, float]]] = {}
    for query, item, label, v1 in zip(*(judged[c] for c in ("query_id", "item_id", "label", "v1_score")), strict=True):
        by_query.setdefault(query, []).append((row[item], label, v1))
    longest = max(map(len, by_query.values()))
    asked = functional.normalize(torch.tensor(queries["features"]), dim=-1) * 8.0
    lists = {}
    for split in ("train", "validation", "test"):
        rows = [number for number, name in enumerate(queries["split"]) if name == split]
        padded = [by_query[queries["query_id"][r]] for r in rows]
        table = torch.tensor([entry + [(-1, 0.0, 0.0)] * (longest - len(entry)) for entry in padded])
        subdomain = [queries["subdomain"][r] for r in rows]
        lists[split] = Lists(table[..., 0].long(), table[..., 1], table[..., 2], asked[rows], subdomain)
    seen = torch.from_numpy(np.setdiff1d(lists["train"].item.numpy(), [-1]))
    features = {}
    for modality in MODALITIES:
        x = torch.tensor(items[modality])
        features[modality] = (x - x[seen].mean(0)) / x[seen].std(0).clamp(min=1e-3)
    return features, lists


def train(
    features: dict[str, Tensor], lists: dict[str, Lists], subset: tuple[str, ...], seed: int, v1: bool
) -> tuple[Tensor, float]:
    """ListNet, Adam, the epoch best on validation; test scores `[Q, L]` and the validation nDCG."""
    torch.manual_seed(seed)
    model = Matcher([features[m].shape[1] for m in subset], lists["train"].query.shape[1], v1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)

    def score(part: Lists, rows: Tensor) -> Tensor:
        gathered = [features[m][part.item[rows].clamp(min=0)] for m in subset]
        out: Tensor = model(gathered, part.query[rows], part.v1[rows] if v1 else None)
        return out.masked_fill(part.item[rows] < 0, -1e4)

    best, kept = -1.0, torch.empty(0)
    whole = {name: torch.arange(len(part.item)) for name, part in lists.items()}
    for _ in range(EPOCHS):
        model.train()
        for rows in torch.chunk(torch.randperm(len(lists["train"].item)), len(lists["train"].item) // 32):
            gains = 2.0 ** lists["train"].label[rows] - 1.0
            target = gains / gains.sum(1, keepdim=True).clamp(min=1.0)
            loss = -(target * score(lists["train"], rows).log_softmax(1)).sum(1).mean()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        model.eval()
        with torch.inference_mode():
            value = float(np.nanmean(mean_ndcg(score(lists["validation"], whole["validation"]), lists["validation"])))
            if value > best:
                best, kept = value, score(lists["test"], whole["test"])
    return kept, best


def main(folder: Path) -> None:
    """Print one line a subset: validation, test (mean over seeds and their deviation), test by subdomain."""
    torch.set_num_threads(1)
    features, lists = read(folder)
    kinds = sorted(set(lists["test"].subdomain))
    where = {kind: np.array([s == kind for s in lists["test"].subdomain]) for kind in kinds}
    v1 = mean_ndcg(lists["test"].v1.masked_fill(lists["test"].item < 0, -1e4), lists["test"])
    v1_validation = np.nanmean(mean_ndcg(lists["validation"].v1, lists["validation"]))
    print(f"{'':28s} validation  test   seed s.d.  " + "  ".join(f"{k:>8s}" for k in kinds))

    def line(name: str, validation: float, by_seed: list[npt.NDArray[np.float64]]) -> None:
        means = [float(np.nanmean(values)) for values in by_seed]
        by_kind = "  ".join(f"{np.nanmean([v[where[k]] for v in by_seed]):8.3f}" for k in kinds)
        print(f"{name:28s} {validation:8.3f}  {np.mean(means):.3f}  {np.std(means):8.3f}   {by_kind}", flush=True)

    line("V1", float(v1_validation), [v1])
    chosen = [s for size in (1, 2, 3) for s in itertools.combinations(MODALITIES, size)]
    runs = [(subset, False) for subset in chosen] + [(("text", "metadata"), True), (MODALITIES, True)]
    for subset, given in runs:
        done = [train(features, lists, subset, seed, given) for seed in range(SEEDS)]
        scores = [mean_ndcg(test, lists["test"]) for test, _ in done]
        line(" + ".join(subset) + (" + V1" if given else ""), float(np.mean([v for _, v in done])), scores)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "clipart")
