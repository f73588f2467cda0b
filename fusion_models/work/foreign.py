"""What an exception of another library says, for one line of ours."""

from __future__ import annotations

import re

LONGEST = 300
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def first_line(error: BaseException) -> str:
    """What an exception says first, in one line of `LONGEST` characters at the most; its type where it says nothing."""
    try:
        text = _COLOUR.sub("", str(error))
    except Exception:  # its own __str__ fails
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (" ".join(lines[:2]) if lines else type(error).__name__)[:LONGEST]
