"""The console of a command: text from outside stands there as it is, and the terminal obeys none of it."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

from fusion_models.terminal import forgiving, plain


class PlainConsole(Console):
    """Rich's console, but for text from outside: no markup, no emoji code, no control character, in any encoding."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = True, highlight: bool = True) -> None:
        forgiving(sys.stderr if stderr else sys.stdout)
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=highlight)

    def render_str(self, text: str, *args: object, **options: object) -> Text:
        """A string as Rich shows it."""
        return super().render_str(plain(text, self.encoding), *args, **options)  # type: ignore[arg-type]
