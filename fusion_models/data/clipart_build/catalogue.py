"""What an SVG file says about itself: title, curators' keywords, author, date, and how complex the drawing is."""

from __future__ import annotations

import re
import unicodedata
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

DROPPED_FOLDERS = frozenset({"computer", "shapes", "special", "unsorted", "buttons"})
"""Interface icons, geometric stock and unsorted leftovers: their titles and keywords are set by rote."""

DRAWN = ("path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "text", "image", "use")
_CC = "{http://web.resource.org/cc/}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b|#[0-9a-fA-F]{3}\b")
_TAG_WORD = re.compile(r"[a-z][a-z]+")
_NOBODY = frozenset({"", "unknown", "anonymous", "none", "n/a", "nobody", "author", "public domain"})
_NO_WORD_TEXT = """
clip art clipart svg png image images picture vector inkscape openclipart unsorted the of and with
for or in on to by from an is as at it its this that hash openoffice file drawing
"""
_NO_WORDS = frozenset(_NO_WORD_TEXT.split())


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One catalogue entry. `keywords` make queries and labels and must never reach a feature."""

    path: Path
    title: str
    keywords: frozenset[str]
    author: str
    """Folded name, for grouping and counting alone; empty where unknown."""
    year: int
    """0 where the file gives none."""
    month: int
    shapes: dict[str, int]
    """How many elements of each drawn kind."""
    groups: int
    gradients: int
    colours: int
    bytes: int


def fold(text: str) -> str:
    """Lower case, accents removed."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))


def words(text: str) -> list[str]:
    """Alphabetic words of two letters and more, folded, plural `s` removed: `Two red Apples_01` -> two, red, apple."""
    return [singular(w) for w in _TAG_WORD.findall(fold(text))]


def singular(word: str) -> str:
    """A crude stem, the same for titles, keywords and queries: butterflies -> butterfly, apples -> apple."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def read_picture(path: Path) -> Picture | None:
    """The entry of one file; None where it cannot be parsed or has neither title nor keywords."""
    try:
        root = ET.parse(path).getroot()
    except (ET.ParseError, ValueError, LookupError):
        return None
    work = next(iter(root.iter(f"{_CC}Work")), None)
    if work is None:
        return None
    author = fold(_text(work, f"{_DC}creator/{_CC}Agent/{_DC}title"))
    title = _without_author(_text(work, f"{_DC}title"), author)
    bag = " ".join(item.text or "" for item in work.findall(f"{_DC}subject/{_RDF}Bag/{_RDF}li"))
    keywords = {w for w in words(bag) if len(w) > 2} - _NO_WORDS - set(words(author))
    if not title or not keywords:
        return None
    tags = Counter(str(e.tag).rsplit("}", 1)[-1] for e in root.iter())
    source = path.read_text(encoding="utf-8", errors="replace")
    date = re.search(r"\b(200\d|201\d)(?:-(\d\d))?", _text(work, f"{_DC}date"))
    return Picture(
        path=path,
        title=title,
        keywords=frozenset(keywords),
        author="" if author in _NOBODY else author,
        year=int(date[1]) if date else 0,
        month=int(date[2]) if date and date[2] else 0,
        shapes={kind: tags[kind] for kind in DRAWN},
        groups=tags["g"],
        gradients=tags["linearGradient"] + tags["radialGradient"],
        colours=len({c.lower() for c in _COLOUR.findall(source)}),
        bytes=len(source),
    )


def read_catalogue(folder: Path) -> list[Picture]:
    """Every usable picture under `folder` (the package's `svg`), sorted by path."""
    kept = (p for p in sorted(folder.rglob("*.svg")) if p.relative_to(folder).parts[0] not in DROPPED_FOLDERS)
    return [picture for path in kept if (picture := read_picture(path)) is not None]


def _text(node: ET.Element, path: str) -> str:
    found = node.find(path)
    return " ".join((found.text or "").split()) if found is not None else ""


def _without_author(title: str, author: str) -> str:
    """The title without its author's name (`Clipart by A. Name - flag` -> `flag`); empty where it says nothing."""
    title = re.sub(r"(?i)^clip ?art by .{3,40}? - ", "", title)
    if len(author) > 4:
        title = re.sub(rf"(?i)[\s,_-]*(\bby\s+)?{re.escape(author)}", "", title)
    return "" if title.lower() in {"", "unknown", "untitled", "no title", "svg", "image"} else title
