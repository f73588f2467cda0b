"""Probes for what leaks without equalling any one column: the label, or V1's score, however it is spread.

Cross-fitted over training queries: linear readouts and trees of all columns, of each block, and of the few that tell
most, among them products of two columns; V1's score is always one of them. An honest feature adds to what the others
know, a leak leaves them far behind, and no honest features together tell nearly all that V1 misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion_models.data import RankingDataset
from fusion_models.integrity.check import Check, CheckStatus, unmeasured
from fusion_models.integrity.documents import MEETING, QUERY, read_documents
from fusion_models.integrity.label_readings import FEWEST, QUERIES, Reader, Reading, Scored
from fusion_models.integrity.readouts import V1, Readouts
from fusion_models.integrity.v1_leaks import v1_check
from fusion_models.metrics import Interval
from fusion_models.modalities import V1_READS

FEW_LEAK, FEW_DOUBTFUL = 0.6, 0.3
"""Share of what the other blocks with V1 miss (1 - their nDCG) that a few columns of one close alone: a leak, and
a warning."""
WHOLE_LEAK, WHOLE_DOUBTFUL = 0.9, 0.6
"""The same for all columns of a modality, or a few of several: they may be the best of all by right."""
ALL_LEAK, ALL_DOUBTFUL = 0.95, 0.85
"""Share of what V1 misses that any columns close, be they all of them or products: no honest features tell nearly
everything. Of planted labels with a tenth of noise the features close 0.87."""
NAMES = ("the label in the features", "V1's score in the features")


def leak_probe_checks(
    data: RankingDataset, generator: np.random.Generator, *, v1_modalities: Sequence[str] = V1_READS
) -> list[Check]:
    """Two checks: whether the features hold the label; and whether they hold V1's score where it has no right to be.

    Reads training queries alone. Not measured with fewer than 20 of them that have a relevant item.
    """
    documents = read_documents(data, "train", generator, queries=QUERIES)
    scored = Scored(documents)
    if scored.telling < FEWEST:
        return [unmeasured(name, "not measured", f"{scored.telling} telling training queries") for name in NAMES]
    readouts = Readouts(documents, generator)
    probed, target = readouts.with_products(readouts.target(documents.labels))
    label = _label_check(Reader(probed, target, scored), generator, documents.said)
    return [label, v1_check(NAMES[1], readouts, v1_modalities)]


@dataclass(frozen=True)
class _Found:
    """What some columns close, over their bar."""

    share: Interval
    """1 and more is a leak."""
    line: str
    status: CheckStatus


class _Findings:
    """What is found on the way, each against its own reference."""

    def __init__(self, scored: Scored, generator: np.random.Generator) -> None:
        self._scored, self._generator = scored, generator
        self.found: list[_Found] = []

    def of_v1(self, what: str, reading: Reading) -> None:
        """Held against V1."""
        self._add(
            reading.closes(self._scored.least, self._generator), ALL_LEAK, ALL_DOUBTFUL, f"{what} {_mean(reading)}"
        )

    def of_others(self, what: str, reading: Reading, reached: Reading, bars: tuple[float, float]) -> None:
        """Held against what all else reaches; `bars`: of a leak, and of a warning."""
        line = f"{what} {_mean(reading)}, all else {_mean(reached)}"
        self._add(reading.closes(reached.ndcg, self._generator), *bars, line)

    def _add(self, share: Interval, leak: float, doubtful: float, line: str) -> None:
        sure = share.low > 0
        status: CheckStatus = (
            "fail" if sure and share.mean >= leak else "warning" if sure and share.mean >= doubtful else "pass"
        )
        of_bar = Interval(share.mean / leak, share.low / leak, share.high / leak)
        self.found.append(_Found(of_bar, line, status))


def _mean(reading: Reading) -> str:
    return f"{reading.ndcg.mean():.3f}"


def _label_check(reader: Reader, generator: np.random.Generator, said: str) -> Check:
    """The columns that come nearest to a leak, as the share of their bar that they reach; 1 is a leak."""
    findings = _Findings(reader.scored, generator)
    everything = reader.all(reader.readouts.columns())
    findings.of_v1("all features with V1's score", everything)
    _few(reader, findings)
    for name in dict.fromkeys(name for blocks in reader.readouts.block for name in blocks):
        if name not in (V1, QUERY):
            _block(reader, name, findings, trees=everything.share(reader.scored.least) >= WHOLE_DOUBTFUL)
    worst = max(findings.found, key=lambda found: found.share.mean)
    statuses = {found.status for found in findings.found}
    told = [found.line for kind in ("fail", "warning") for found in findings.found if found.status == kind]
    lines = list(dict.fromkeys(told)) or [worst.line]
    return Check(
        name=NAMES[0],
        value=worst.share.mean,
        ci_low=worst.share.low,
        ci_high=worst.share.high,
        threshold=1.0,
        direction="at most",
        status="fail" if "fail" in statuses else "warning" if "warning" in statuses else "pass",
        detail=f"nDCG, cross-fitted (V1 {reader.scored.v1.mean():.3f}; {said}): " + "; ".join(lines),
    )


def _few(reader: Reader, findings: _Findings) -> None:
    """The best few columns of all, V1's score among them: against V1, and against all other columns."""
    columns = reader.readouts.columns(MEETING)
    plain = [c for c in columns if c < reader.readouts.plain]
    found = reader.few(plain)
    findings.of_v1(reader.named(found.columns), found)
    if found.share(reader.scored.least) >= WHOLE_DOUBTFUL:
        reached = reader.without([c for c in plain if c not in found.columns])
        findings.of_others(reader.named(found.columns), found, reached, (WHOLE_LEAK, WHOLE_DOUBTFUL))
    if len(columns) > len(plain):  # no other columns can be held against a product: none of them tells of it
        found = reader.few(columns)
        findings.of_v1(reader.named(found.columns), found)


def _block(reader: Reader, name: str, findings: _Findings, *, trees: bool) -> None:
    """A block's few columns and all of them: with V1's score against V1, alone against what the others reach with it.

    `trees`: they read all of them too, where all features together tell enough for that to matter.
    """
    mine = [c for c in reader.readouts.of(name) if c < reader.readouts.plain]
    with_v1, reached = [*mine, *reader.readouts.of(V1)], None
    findings.of_v1(f"all of {name} with V1's score", reader.all(with_v1, trees=False))
    readings = [(reader.all(mine, trees=trees), f"all of {name}", (WHOLE_LEAK, WHOLE_DOUBTFUL))]
    if name != MEETING:
        few = reader.few(with_v1)
        findings.of_v1(reader.named(few.columns), few)
        few = reader.few(mine)
        readings.append((few, reader.named(few.columns), (FEW_LEAK, FEW_DOUBTFUL)))
    for reading, what, bars in readings:
        if reading.share(reader.scored.least) >= bars[1]:
            reached = reached or reader.without(reader.readouts.columns(name, MEETING))
            findings.of_others(what, reading, reached, bars)
