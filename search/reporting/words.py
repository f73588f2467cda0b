"""Numbers and names as the report writes them."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from typing import Any

from search.run_store.facts import Facts

LABELS = {
    "ndcg": "nDCG@10",
    "ndcg_gain": "nDCG gain over V1",
    "visual_masking_drop": "Drop when the image is blanked",
    "text_masking_drop": "Drop when the text is blanked",
    "metadata_masking_drop": "Drop when the metadata is blanked",
    "attention_max_share": "Largest attention share",
    "attention_min_share": "Smallest attention share",
    "attention_balance": "Attention balance",
    "v1_correlation": "Correlation with V1",
    "reconstruction_ssim": "SSIM of rebuilt thumbnails",
    "latency_p95_ms": "Latency P95 (ms)",
    "queries": "Queries",
    "test_queries": "Queries",
}
SHORT = {
    "ndcg_gain": "gain",
    "visual_masking_drop": "image drop",
    "attention_max_share": "largest share",
    "v1_correlation": "V1 correlation",
}
FRACTIONS = ("masking_drop",)
"""Quantities that read better as per cent."""


def label(name: str) -> str:
    """A quantity or gate as a reader calls it."""
    if name.startswith("resume: "):
        rest = name.removeprefix("resume: ")
        return f"Resume: {rest[:1].lower() + rest[1:] if not rest.startswith('V1') else rest}"
    found = LABELS.get(name, name.replace("_", " "))
    return found if found.startswith("nDCG") else found[:1].upper() + found[1:]


def reading(reason: str) -> str:
    """A reason of a decision with its quantities and business facts as a reader calls them."""

    def word(found: re.Match[str]) -> str:
        name = LABELS.get(found[0], found[0].replace("_", " "))
        return name if name.startswith(("nDCG", "SSIM")) else name[:1].lower() + name[1:]

    known = (*LABELS, *(fact.name for fact in fields(Facts)))
    names = "|".join(name for name in known if "_" in name)
    return re.sub(rf"(?<![\w./])(?:{names})(?![\w./])", word, reason)


def brief(name: str) -> str:
    """A gate, rule or ranker in a chart's margin: without what stands in brackets or after a comma."""
    if name.startswith("tuned V1 ("):
        return f"tuned V1, {name.removeprefix('tuned V1 (').split(' with ')[0].split(' on ')[0]}"
    return label(name).split(" (")[0].split(", or ")[0]


def number(value: Any, name: str = "", *, signed: bool = False) -> str:
    """A number at the precision that its quantity deserves; `–` where it is not known."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if name.endswith(FRACTIONS):
        text = f"{100 * value:+.1f} %" if signed else f"{100 * value:.1f} %"
    elif float(value).is_integer() and abs(value) >= 10:
        text = f"{value:,.0f}"
    elif signed or "gain" in name:
        text = f"{value:+.4f}"
    else:
        text = f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return text.replace("-", "−")


def unbroken(page: str) -> str:
    """A page of HTML in which no line ends between a number and its percent sign."""
    parts = re.split(r"(<script\b.*?</script>)", page, flags=re.DOTALL)
    parts[::2] = [re.sub(r"(?<=\d) %", "\u00a0%", text) for text in parts[::2]]
    return "".join(parts)


def interval(low: Any, high: Any, name: str = "", *, signed: bool = False) -> str:
    """`[+0.002, +0.072]`; empty where it is not known."""
    if low is None or high is None or any(isinstance(v, float) and math.isnan(v) for v in (low, high)):
        return ""
    return f"[{number(low, name, signed=signed)}, {number(high, name, signed=signed)}]"
