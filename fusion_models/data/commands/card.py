"""A dataset at a glance: its sizes, and what about it should be doubted before anybody trusts a verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusion_models.data.dataset import RankingDataset
from fusion_models.data.splits import SPLITS
from fusion_models.data.tables.declaration import STAND_IN

SAMPLE_DOCUMENTS = 20_000
SAMPLE_PICTURES = 256
"""Training documents read to look for features that give the label or V1's score away."""
GATE_TEST_QUERIES = 500
FAR_OFF = 200.0
"""How many times as far from the median as all others a value lies that is taken for a fill value."""
LONG_LIST = 10_000
"""Candidates of a query beyond which LightGBM, one of the baselines, does not take it."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DataCard:
    """Rows of (what, value) and sentences of doubt."""

    facts: list[tuple[str, str]]
    doubts: list[str]


def data_card(data: RankingDataset) -> DataCard:
    """Look a dataset over. Reads the labels, the scores and a sample of the features."""
    return DataCard(_facts(data), [*_doubts_of_lists(data), *_doubts_of_features(data), *_doubts_of_splits(data)])


def _facts(data: RankingDataset) -> list[tuple[str, str]]:
    judged = data.candidates[data.candidates > 0]
    grades, counts = np.unique(data.labels, return_counts=True)
    share = ", ".join(f"{g + 0.0:g}: {c / counts.sum():.1%}" for g, c in list(zip(grades, counts, strict=True))[:8])
    widths = ", ".join(f"{m} {data.schema.width(m)}" for m in data.schema.modalities)
    names, sizes = np.unique(data.subdomain.astype(str), return_counts=True)
    largest = [f"{names[i]} {sizes[i]:,}" for i in np.argsort(-sizes, kind="stable")[:8]]
    return [
        ("source", data.source),
        ("tables", data.location),
        ("fingerprint", data.fingerprint),
        ("queries", ", ".join(f"{split} {len(data.rows(split)):,}" for split in SPLITS)),
        ("items, judgements", f"{data.counts['items']:,}, {data.counts['judgements']:,}"),
        ("candidates a query", f"{judged.min()} to {judged.max()}, median {np.median(judged):g}"),
        ("labels", share + (" ..." if len(grades) > 8 else "")),
        ("features", widths),
        ("context features", f"query {data.schema.query}, pair {data.schema.pair}"),
        ("pictures", "none" if data.schema.thumbnail is None else f"{data.schema.thumbnail} px thumbnails"),
        ("query weights", "1 each" if (data.weight == 1).all() else f"{data.weight.min():g} to {data.weight.max():g}"),
        ("subdomains", f"{len(names)}: {', '.join(largest)}" + (" ..." if len(names) > 8 else "")),
    ]


def _doubts_of_lists(data: RankingDataset) -> list[str]:
    counts, doubts = data.counts, []
    said = {
        "queries_without_relevant": "queries have no relevant item: they leave every nDCG mean",
        "queries_single_candidate": "queries have a single candidate: there is nothing to rank",
        "queries_tied_v1": "queries have tied V1 scores: V1's order among the tied is chance",
        "queries_without_candidates": "queries have no judgement: they are in no split's rows",
        "items_never_judged": "items are in no judgement",
        "items_without_image": "items have no picture: a white thumbnail stands in",
    }
    for name, sentence in said.items():
        whole = counts["items" if name.startswith("items") else "queries"]
        if counts.get(name):
            doubts.append(f"{counts[name]:,} of {whole:,} {sentence}.")
    for name, count in counts.items():
        table, marked, column = name.partition(f"_{STAND_IN}")
        if marked and count:
            doubts.append(
                f"{count:,} of {counts[table]:,} {table} have no {column} of their own: another vector stands in "
                f"(column {STAND_IN}{column}), and counts in all that is measured of {column}."
            )
    longest = int(data.candidates.max())
    if longest > LONG_LIST:
        doubts.append(
            f"{int((data.candidates > LONG_LIST).sum()):,} queries have more than {LONG_LIST:,} candidates (up to "
            f"{longest:,}): LambdaMART is trained without them, and every batch with one is padded to its length "
            "(losses of pairs compare 512 of it)."
        )
    if data.labels.max() > 10:
        doubts.append(f"The largest label is {data.labels.max():g}: a gain of 2^label lets it decide every nDCG.")
    if data.statistics.v1_input != "score":
        read = "less their query's mean" if data.statistics.v1_input == "centred" else "as ranks within the query"
        doubts.append(
            f"V1's scores lie so far apart that float32 loses their order: models read them {read}; what is measured "
            "reads them as they are."
        )
    query = np.repeat(np.arange(len(data.candidates)), data.candidates)
    correlation = _correlation(_centred(data.v1, query), _centred(data.labels, query))
    if correlation is None:
        doubts.append("V1's scores (or the labels) do not vary within any query: nothing can be compared with V1.")
    elif correlation <= 0:
        doubts.append(f"V1 correlates {correlation:+.2f} with the labels within queries: is its sign the right one?")
    return doubts


def _doubts_of_features(data: RankingDataset) -> list[str]:
    """Constant features, features that are V1 or the label, modalities that blanking to zero leaves as they are."""
    train = data.split[np.repeat(np.arange(len(data.candidates)), data.candidates)] == SPLITS.index("train")
    judgements = np.flatnonzero(train)
    judgements = judgements[:: max(1, len(judgements) // SAMPLE_DOCUMENTS)]
    targets = {"the label": data.labels[judgements], "V1's score": data.v1[judgements]}
    doubts = []
    for modality in data.schema.modalities:
        x = data.item_features[modality][data.judged_item[judgements]].astype(np.float64)
        constant = int(((np.ptp(x, axis=0) == 0) & ~_other_slots(data, modality, x.shape[1])).sum())
        if bool((np.ptp(x, axis=0) == 0).all()):
            doubts.append(f"{modality} is constant over the training documents: it can tell nothing.")
        elif constant:
            doubts.append(f"{constant} of {x.shape[1]} {modality} features are constant over the training documents.")
        filled = _fill_values(x)
        if filled:
            column, value, rows = filled[0]
            doubts.append(
                f"{modality} feature {column} is {value:.6g} in {rows:,} of {len(x):,} training documents looked at, "
                f"{FAR_OFF:g} times as far off as any other value: a fill value? "
                + (f"So have {len(filled) - 1} more features. " if len(filled) > 1 else "")
                + f"It takes the scale of the whole modality. Put a stand-in there and say so in missing_{modality}."
            )
        for encoded in data.statistics.encodings.get(modality, []):
            if "left" in encoded:
                there, left = encoded["left"]
                doubts.append(
                    f"{encoded['name']}: of {there:,} different values looked at, {left:,} "
                    f"{'is' if left == 1 else 'are'} left once they are standardised as float32 numbers. A value far "
                    "off takes the scale: mend it (a fill value?), or write the logarithm."
                )
        for name, target in targets.items():
            for column in range(x.shape[1]):
                correlation = _correlation(x[:, column], target)
                if correlation is not None and abs(correlation) > 0.999:
                    doubts.append(f"{modality} feature {column} is {name} (correlation {correlation:+.4f}): a leak.")
        spread = float(np.sqrt((x.std(axis=0) ** 2).sum()))
        if constant < x.shape[1] and float(np.linalg.norm(x.mean(axis=0))) < 0.05 * spread:
            doubts.append(f"{modality} has a mean near zero: blanking it to zero is blanking it to the mean.")
    if data.schema.thumbnail is not None:
        pictures = data.thumbnails(np.unique(data.judged_item[judgements])[:SAMPLE_PICTURES])
        if bool((pictures == pictures[0]).all()):
            doubts.append("The pictures of the training documents are all the same: there is nothing to see.")
    return doubts


def _fill_values(x: Floats) -> list[tuple[int, float, int]]:
    """Column, value and number of rows, where a few values of `[n, D]` lie far from all others (`FAR_OFF`)."""
    away = np.abs(x - np.median(x, axis=0))
    far = away >= away.max(axis=0) / FAR_OFF
    others = np.where(far, 0.0, away).max(axis=0)
    nearest = np.where(far, away, np.inf).min(axis=0)
    columns = np.flatnonzero((others > 0.0) & (nearest >= FAR_OFF * others))
    return [(int(c), float(x[away[:, c].argmax(), c]), int(far[:, c].sum())) for c in columns]


def _other_slots(data: RankingDataset, modality: str, width: int) -> npt.NDArray[np.bool_]:
    """`[D]`: features that stand for a category's rare values, `other`: where there are none it is right that they
    are constant."""
    slots = np.zeros(width, dtype=np.bool_)
    encoded = data.statistics.encodings.get(modality, [])
    if encoded:
        ends = np.cumsum([len(c["categories"]) + 1 if "categories" in c else 1 for c in encoded], dtype=np.int64)
        first = width - int(ends[-1])  # a list column of the modality comes before them
        slots[[first + end - 1 for c, end in zip(encoded, ends.tolist(), strict=True) if "categories" in c]] = True
    return slots


def _doubts_of_splits(data: RankingDataset) -> list[str]:
    doubts = []
    test_rows = data.rows("test")
    if len(test_rows) < GATE_TEST_QUERIES:
        doubts.append(f"{len(test_rows)} test queries: the gates of phase 3 ask for {GATE_TEST_QUERIES}.")
    in_split = data.split[np.repeat(np.arange(len(data.candidates)), data.candidates)]
    items = [np.unique(data.judged_item[in_split == code]) for code in range(len(SPLITS))]
    for code, name in ((1, "validation"), (2, "test")):
        shared = np.intersect1d(items[0], items[code]).size
        if shared:
            doubts.append(f"{shared:,} of {len(items[code]):,} {name} items are also judged in training.")
    small = [
        str(name)
        for name, size in zip(*np.unique(data.subdomain[test_rows].astype(str), return_counts=True), strict=True)
        if size < 30
    ]
    if small:
        doubts.append(f"Fewer than 30 test queries in {len(small)} subdomains ({', '.join(small[:5])}).")
    return doubts


def _centred(values: npt.NDArray[np.float64], group: npt.NDArray[np.int64]) -> Floats:
    counts = np.maximum(np.bincount(group), 1)
    first = values[np.searchsorted(group, np.arange(len(counts)))[group]] if len(group) else values
    anchored = values - first  # so that what a query's values have in common is gone before they are summed
    return np.asarray(anchored - (np.bincount(group, weights=anchored) / counts)[group], dtype=np.float64)


def _correlation(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float | None:
    x, y = a.astype(np.float64) - a.mean(dtype=np.float64), b.astype(np.float64) - b.mean(dtype=np.float64)
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 1e-12 else None
