"""A progress bar for notebooks, where a terminal's lines that change cannot be drawn."""

from __future__ import annotations

import html
import importlib
from typing import Any


class NotebookBar:
    """One bar with a line below it, drawn again in its place. Needs IPython, which every notebook has."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._display: Any = importlib.import_module("IPython.display")
        self._handle: Any = self._display.display(self._drawn(0, "starting the trainings …"), display_id=True)

    def update(self, done: int, note: str) -> None:
        """Draw how many trainings are done, and `note`."""
        self._handle.update(self._drawn(done, note))

    def _drawn(self, done: int, note: str) -> Any:
        bar = f'<progress value="{done}" max="{max(1, self._total)}" style="width: 100%"></progress>'
        return self._display.HTML(f"{bar}<div><small>{html.escape(note)}</small></div>")
