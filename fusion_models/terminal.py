"""Printing that never ends a run: characters that the terminal's encoding lacks are replaced."""

from __future__ import annotations

import codecs
from typing import TextIO

PLAIN = {
    "–": "-",
    "−": "-",
    "—": "-",
    "…": "...",
    "≥": ">=",
    "≤": "<=",
    "→": "->",
    "←": "<-",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "•": "*",
    "✓": "+",
    "✗": "x",
    "∞": "inf",
    **{block: str(height) for height, block in enumerate("▁▂▃▄▅▆▇█", start=1)},
}
"""What stands for a character that a terminal's encoding lacks; `?` for any other."""
ERRORS = "fusion_models.plain"


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = "".join(PLAIN.get(character, "?") for character in error.object[error.start : error.end])
    return text, error.end


codecs.register_error(ERRORS, _plain)


CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"} | {
    ord("\r"): " "
}
"""What a terminal obeys, written out: text from outside colours, clears and renames nothing."""


def plain(text: str, encoding: str) -> str:
    """`text` as a stream of this encoding will hold it: what is laid out in columns must know its length before.

    Control characters are written out.
    """
    return text.translate(CONTROLS).encode(encoding, ERRORS).decode(encoding)


def forgiving(stream: TextIO) -> TextIO:
    """The same stream; a character that it cannot hold (Latin-1, ASCII) is written as one that it can."""
    reconfigure = getattr(stream, "reconfigure", None)  # streams that tests put in its place may have none
    if reconfigure is not None:
        reconfigure(errors=ERRORS)
    return stream
