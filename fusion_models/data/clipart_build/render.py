"""Vector pictures to pixels on white, one short-lived process a picture, so that a bad file can be timed out."""

from __future__ import annotations

import importlib
import io
import multiprocessing as mp
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from PIL import Image, ImageChops

SIDE = 288
"""Pixels of the stored square renderings."""
MARGIN = 0.04
"""White border around the drawn part, as a fraction of its longer side."""


def render_all(paths: list[Path], folder: Path, *, processes: int = 2, seconds: float = 20.0) -> list[Path | None]:
    """Render every file to `folder/NNNNN.png`; None where it fails, is blank or takes longer than `seconds`.

    Finished files are kept, so that a run that was broken off goes on where it stood.
    """
    folder.mkdir(parents=True, exist_ok=True)
    targets = [folder / f"{number:05d}.png" for number in range(len(paths))]
    running: list[tuple[BaseProcess, float]] = []
    for source, target in zip(paths, targets, strict=True):
        if target.exists():
            continue
        while len(running) >= processes:
            running = _still_running(running)
        process = mp.get_context("fork").Process(target=render_one, args=(source, target))
        process.start()
        running.append((process, time.monotonic() + seconds))
    while running:
        running = _still_running(running)
    return [target if target.exists() else None for target in targets]


def render_one(source: Path, target: Path) -> None:
    """Draw one SVG on a white square, cropped to what is drawn; nothing is written for a blank picture."""
    resvg = importlib.import_module("resvg_py")
    # No system fonts: the same pixels on every machine, at the price of text that was not turned into paths.
    drawn = resvg.svg_to_bytes(svg_path=str(source), width=3 * SIDE, dpi=96, skip_system_fonts=True)
    picture = on_white(Image.open(io.BytesIO(bytes(drawn))))
    square = cropped_square(picture)
    if square is not None:
        partial = target.with_suffix(".part")
        square.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(partial, format="PNG")
        partial.rename(target)


def on_white(picture: Image.Image) -> Image.Image:
    """RGB over a white background."""
    rgba = picture.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def cropped_square(picture: Image.Image) -> Image.Image | None:
    """The drawn part, centred in a white square with a thin margin; None where nothing is drawn."""
    box = ImageChops.difference(picture, Image.new("RGB", picture.size, "white")).getbbox()
    if box is None:
        return None
    part = picture.crop(box)
    side = max(part.size) + 2 * max(1, round(MARGIN * max(part.size)))
    square = Image.new("RGB", (side, side), "white")
    square.paste(part, ((side - part.width) // 2, (side - part.height) // 2))
    return square


def _still_running(running: list[tuple[BaseProcess, float]]) -> list[tuple[BaseProcess, float]]:
    left = []
    for process, deadline in running:
        process.join(timeout=0.005)
        if process.is_alive() and time.monotonic() > deadline:
            process.kill()
            process.join()
        elif process.is_alive():
            left.append((process, deadline))
    return left
