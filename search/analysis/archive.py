"""Every rule that ends V2. Each holds only where its whole interval says so, at its share of the phase's error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal

from fusion_models.metrics import Interval
from search.analysis.judged import ArchiveEvidence, Evidence, Probe
from search.analysis.measure import NOMINAL_LEVEL, at_level
from spaces import Phase

RULES_EARLY = 2
RULES_LATE = 3
RULES_RELEASE = 4
"""Phase 4 reads phase 3's rules again, and the one on latency."""
RELEASE_RULE_LEVEL = 1.0 - 0.05 / RULES_RELEASE
"""Of a two-sided interval of what no test split tells, such as latency: looks spend nothing there."""


@dataclass(frozen=True, kw_only=True)
class ArchiveRule:
    """One rule that ends V2, and whether its interval says so."""

    key: str
    name: str
    value: float
    ci_high: float
    threshold: float
    holds: bool
    measured: bool
    ci_low: float = nan
    direction: Literal["below", "above"] = "below"
    """On which side of the threshold the whole interval must lie for the rule to hold."""
    note: str = ""


def rules_read(phase: Phase) -> int:
    """Among how many rules a phase splits the 2.5 % that a wrong ARCHIVE may have."""
    return RULES_LATE if phase.late else RULES_EARLY


BLIND_PROBES = "no probe finds a signal planted into these columns"
NOT_ASKED = "no probe was trained: validation leaves no doubt, or every probe failed"


def archive_rules(phase: Phase, evidence: Evidence) -> tuple[ArchiveRule, ...]:
    """Every archive rule that this phase reads."""
    found, asked = evidence.archive, phase.thresholds
    rules = [_nothing_to_give(phase, found)]
    if not phase.late:
        return (*rules, _no_rise(phase, found))
    name = "the gain over V1 stays too small (as the best of finalist, base and short list)"
    rules.append(_of_best("gain", name, found, found.ndcg_gain, found.best_listed_gain, asked.least_gain))
    name = "a tuned V1 gains as much (as the best of finalist, base and short list)"
    over = found.best_listed_over_tuned_v1
    rules.append(_of_best("tuned V1", name, found, found.over_tuned_v1, over, asked.as_good_as_tuned_v1))
    return tuple(rules)


def _of_best(
    key: str, name: str, found: ArchiveEvidence, better: Interval | None, listed: Interval | None, threshold: float
) -> ArchiveRule:
    """Holds where it holds for the better of finalist and base, and for the best of the short list.

    The finalist is chosen for its gates. V2 has not ended where a recipe that missed them gains enough.
    """
    if not found.best_listed:
        return _rule(key, name, better, threshold)
    if better is None or listed is None:
        return _rule(key, name, None, threshold, note=f"{found.best_listed} of the short list is not measured")
    said = f"{found.best_listed} of the short list: {listed.mean:+.4f} [{listed.low:+.4f}, {listed.high:+.4f}]"
    return _rule(key, name, max(better, listed, key=lambda interval: interval.high), threshold, note=said)


def _nothing_to_give(phase: Phase, found: ArchiveEvidence) -> ArchiveRule:
    """Refit gains of finalist and base, and every probe that counts: all below what counts as something.

    One model family may be blind to a modality in one way. So rankers outside of it are asked too, and only those
    count that find a signal planted into these very columns. Without any the rule is not measured.
    """
    name = (
        f"{phase.suspect} has nothing to give (refit gains of finalist and base recipe, and probes outside the family)"
    )
    counting = [probe for probe in found.probes if probe.counts]
    gains = [found.refit_gain, found.base_refit_gain, *(probe.gain for probe in counting)]
    known = [gain for gain in gains if gain is not None]
    if len(known) < len(gains) or not counting:
        why = "" if counting else BLIND_PROBES if found.probes else NOT_ASKED
        return _rule("nothing to give", name, None, phase.thresholds.nothing_to_give, note=why)
    sure = earning(phase, found)
    largest = max([*known, *(probe.gain for probe in sure)], key=lambda gain: gain.high)
    said = _said([probe for probe in found.probes if probe.counts or probe in sure])
    return _rule("nothing to give", name, largest, phase.thresholds.nothing_to_give, note=said)


def earning(phase: Phase, found: ArchiveEvidence) -> list[Probe]:
    """Probes that surely earn from the suspect, and in the mean what counts as something, whether they count or not."""
    least = phase.thresholds.nothing_to_give
    return [probe for probe in found.probes if nominal(phase, probe.gain).low > 0.0 and probe.gain.mean >= least]


def nominal(phase: Phase, interval: Interval) -> Interval:
    """At a rule's share of 5 %, whatever the look: what holds the end of V2 off must not weaken with looks."""
    return at_level(interval, 1.0 - (1.0 - NOMINAL_LEVEL) / rules_read(phase))


def _said(probes: Sequence[Probe]) -> str:
    return "; ".join(f"{p.name} {p.gain.mean:+.4f} [{p.gain.low:+.4f}, {p.gain.high:+.4f}]" for p in probes)


def _no_rise(phase: Phase, found: ArchiveEvidence) -> ArchiveRule:
    """The roadmap's first archive rule: regularisation does not raise the contribution, and the base's own fails.

    Read with the probes: what another ranker earns from the modality, a better recipe might too.
    """
    name = f"the phase does not raise what {phase.suspect} contributes (its masking drop, beside the base recipe's)"
    counting = [probe for probe in found.probes if probe.counts]
    earned = any(probe.gain.high >= phase.thresholds.nothing_to_give for probe in counting)
    base = found.base_drop
    if base is None or found.drop_rise is None or not counting:
        return _rule("no rise", name, None, 0.0)
    rule = _rule("no rise", name, found.drop_rise, 0.0)
    fails = base.high < phase.wanted_drop
    if fails and not earned:
        return rule
    why = "a probe outside the family earns from it" if fails else "the base recipe's own drop does not fail"
    return ArchiveRule(**(vars(rule) | {"holds": False, "note": why}))


def _rule(key: str, name: str, interval: Interval | None, threshold: float, note: str = "") -> ArchiveRule:
    return ArchiveRule(
        key=key,
        name=name,
        value=interval.mean if interval else nan,
        ci_high=interval.high if interval else nan,
        threshold=threshold,
        holds=interval is not None and interval.high < threshold,
        measured=interval is not None,
        ci_low=interval.low if interval else nan,
        note=note,
    )
