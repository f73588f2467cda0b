"""Text from outside, such as names and errors, put into Markdown."""

from __future__ import annotations

import re


def plain_text(value: object) -> str:
    """Text from outside as Markdown shows it: no table cell ends in it, nothing in it is a link, code or emphasis."""
    found = re.sub(r"([\\|`*<>~$])", r"\\\1", " ".join(str(value).split()))
    found = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", found)  # one within a word begins nothing
    found = re.sub(r"&(?=#?\w+;)", r"\\&", found)
    return re.sub(r"\](?=[(\[:])", r"\\]", found)
