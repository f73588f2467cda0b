"""The live front as a small picture, drawn with Pillow: milliseconds, and no chart library in the driver."""

from __future__ import annotations

import io
from collections.abc import Sequence
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
        _panel(draw, (MARGIN, TOP + place * (PANEL + BELOW)), phase, other, first, finished, front)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue(), image.size


def _panel(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    phase: Phase,
    across: Objective,
    up: Objective,
    records: Sequence[TrialRecord],
    front: set[str],
) -> None:
    left, top = corner
    spans = [_span(phase, objective, records) for objective in (across, up)]

    def at(x: float, y: float) -> tuple[float, float]:
        u, v = ((value - low) / (high - low) for value, (low, high) in zip((x, y), spans, strict=True))
        return left + u * PANEL, top + (1 - v) * PANEL

    draw.rectangle((left, top, left + PANEL, top + PANEL), outline=FAINT)
    for share in (0.0, 0.5, 1.0):
        x, y = (low + share * (high - low) for low, high in spans)
        draw.text((left + share * PANEL, top + PANEL + 4), f"{x:.2f}", fill=INK, font=_font(13), anchor="ma")
        draw.text((left - 6, top + (1 - share) * PANEL), f"{y:+.3f}", fill=INK, font=_font(13), anchor="rm")
    better = "right" if across.direction == "maximize" else "left"
    draw.text(
        (left + PANEL / 2, top + PANEL + 26), f"{across.name} (better: {better})", fill=INK, font=_font(14), anchor="ma"
    )
    draw.text((left + 6, top + 4), f"{up.name} (better: up)", fill=INK, font=_font(14))
    for gate in phase.gates:
        if gate.quantity == across.name and spans[0][0] < gate.threshold < spans[0][1]:
            x = at(gate.threshold, spans[1][0])[0]
            _dashed(draw, (x, top), (x, top + PANEL))
        if gate.quantity == up.name and spans[1][0] < gate.threshold < spans[1][1]:
            y = at(spans[0][0], gate.threshold)[1]
            _dashed(draw, (left, y), (left + PANEL, y))
    for record in sorted(records, key=lambda r: r.trial_id in front):
        x, y = at(record.numbers[across.name], record.numbers[up.name])
        on = record.trial_id in front
        radius = 5 if on else 4
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius), fill=FRONT if on else None, outline=FRONT if on else OTHER
        )


def _span(phase: Phase, objective: Objective, records: Sequence[TrialRecord]) -> tuple[float, float]:
    """What the trials and the gates need, and a little more."""
    values = [record.numbers[objective.name] for record in records]
    values += [gate.threshold for gate in phase.gates if gate.quantity == objective.name]
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = 0.08 * (high - low) or 0.05
    return low - pad, high + pad


def _dashed(draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float]) -> None:
    steps = PANEL // 10
    for step in range(steps):
        a, b = step / steps, (step + 0.6) / steps
        points = [(s + share * (e - s)) for share in (a, b) for s, e in zip(start, end, strict=True)]
        draw.line(points, fill=GATE, width=2)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
