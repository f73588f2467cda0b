"""The live front as a small picture, drawn with Pillow: milliseconds, and no chart library in the driver."""

from __future__ import annotations

import io
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from search.analysis.front import pareto_front
from search.run_store.job import TrialRecord
from spaces import Objective, Phase

PANEL, MARGIN, GAP, TOP, BELOW = 300, 62, 22, 40, 62
"""Pixels. One panel below the other: TensorBoard shows a picture about 350 pixels wide."""
INK, FAINT, GATE, FRONT, OTHER = "#1f2933", "#c3cad2", "#b45309", "#1d4ed8", "#9aa5b1"


def front_picture(phase: Phase, searched: Sequence[TrialRecord]) -> tuple[bytes, tuple[int, int]]:
    """PNG and its (width, height): the first objective against each other one, finished trials alone.

    The front is filled, what it dominates hollow; a dashed line is a gate on the objective of its axis.
    """
    first, *others = phase.objectives
    image = Image.new("RGB", (MARGIN + PANEL + GAP, TOP + len(others) * (PANEL + BELOW)), "white")
    draw = ImageDraw.Draw(image)
    finished = [r for r in searched if r.finished]
    front = {record.trial_id for record in pareto_front(phase, searched)}
    title = f"{phase.name}: front of {len(front)} among {len(finished)} finished, {len(searched)} ended"
    draw.text((12, 10), title, fill=INK, font=_font(16))
    for place, other in enumerate(others):
        across, up = (_Axis.of(phase, objective, finished) for objective in (other, first))
        panel = _Panel(MARGIN, TOP + place * (PANEL + BELOW), across, up)
        _draw_axes(draw, panel)
        _draw_trials(draw, panel, finished, front)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue(), image.size


@dataclass(frozen=True)
class _Axis:
    """An objective, and the values from one end of a panel to the other: all of its trials and gates, and more."""

    objective: Objective
    gates: tuple[float, ...]
    """Thresholds on the objective."""
    low: float
    high: float

    @staticmethod
    def of(phase: Phase, objective: Objective, records: Sequence[TrialRecord]) -> _Axis:
        gates = tuple(gate.threshold for gate in phase.gates if gate.quantity == objective.name)
        values = [*(record.numbers[objective.name] for record in records), *gates]
        low, high = min(values, default=0.0), max(values, default=1.0)
        pad = 0.08 * (high - low) or 0.05
        return _Axis(objective, gates, low - pad, high + pad)

    def share(self, value: float) -> float:
        """How far along the axis a value lies."""
        return (value - self.low) / (self.high - self.low)

    def value(self, share: float) -> float:
        return self.low + share * (self.high - self.low)


@dataclass(frozen=True)
class _Panel:
    """One objective against another."""

    left: int
    top: int
    across: _Axis
    up: _Axis

    def x(self, value: float) -> float:
        return self.left + self.across.share(value) * PANEL

    def y(self, value: float) -> float:
        return self.top + (1 - self.up.share(value)) * PANEL


def _draw_axes(draw: ImageDraw.ImageDraw, panel: _Panel) -> None:
    left, top, across, up = panel.left, panel.top, panel.across, panel.up
    draw.rectangle((left, top, left + PANEL, top + PANEL), outline=FAINT)
    for share in (0.0, 0.5, 1.0):
        x, y = f"{across.value(share):.2f}", f"{up.value(share):+.3f}"
        draw.text((left + share * PANEL, top + PANEL + 4), x, fill=INK, font=_font(13), anchor="ma")
        draw.text((left - 6, top + (1 - share) * PANEL), y, fill=INK, font=_font(13), anchor="rm")
    better = "right" if across.objective.direction == "maximize" else "left"
    said = f"{across.objective.name} (better: {better})"
    draw.text((left + PANEL / 2, top + PANEL + 26), said, fill=INK, font=_font(14), anchor="ma")
    draw.text((left + 6, top + 4), f"{up.objective.name} (better: up)", fill=INK, font=_font(14))
    for gate in across.gates:
        _dashed(draw, (panel.x(gate), top), (panel.x(gate), top + PANEL))
    for gate in up.gates:
        _dashed(draw, (left, panel.y(gate)), (left + PANEL, panel.y(gate)))


def _draw_trials(
    draw: ImageDraw.ImageDraw, panel: _Panel, records: Sequence[TrialRecord], front: AbstractSet[str]
) -> None:
    for record in sorted(records, key=lambda r: r.trial_id in front):
        x = panel.x(record.numbers[panel.across.objective.name])
        y = panel.y(record.numbers[panel.up.objective.name])
        on = record.trial_id in front
        radius = 5 if on else 4
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius), fill=FRONT if on else None, outline=FRONT if on else OTHER
        )


def _dashed(draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float]) -> None:
    steps = PANEL // 10
    for step in range(steps):
        a, b = step / steps, (step + 0.6) / steps
        points = [(s + share * (e - s)) for share in (a, b) for s, e in zip(start, end, strict=True)]
        draw.line(points, fill=GATE, width=2)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
