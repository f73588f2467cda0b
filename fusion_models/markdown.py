"""Text from outside, such as names and errors, put into Markdown."""

from __future__ import annotations

import re


def plain_text(value: object) -> str:
    """Text from outside as Markdown shows it: no table cell ends in it, no link, code or element begins."""
    found = re.sub(r"([\\\\|`*<>])", r"\\\1", " ".join(str(value).split()))
    return re.sub(r"\](?=[(\[:])", r"\\]", found)
