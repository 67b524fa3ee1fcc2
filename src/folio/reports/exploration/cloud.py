"""A word cloud as SVG text: the more often a word occurs, the larger and the nearer the middle.

Each word, the most frequent first, goes along a spiral from the middle to the first place where its box meets no
other. The same words give the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from folio.reports.drawing import HALF, WIDE, paint, printable, svg_element

LARGEST, SMALLEST = 54.0, 13.0
"""Font sizes, in pixels."""
TOP = 34
"""Room for the title."""
COLOURS = (0, 2, 6, 5, 7)
LONGEST = 24
"""Characters; a longer word is no word to look at."""
_WIDTHS = {"fijlrtI.,'!|": 0.36, "mwMWÆŒæœ@%": 0.92, "csxyzkvaeJ": 0.56}


@dataclass(frozen=True, slots=True)
class Placed:
    """A word and the box it has to itself, in pixels from the upper left corner."""

    word: str
    count: int
    size: float
    left: float
    top: float
    width: float
    height: float

    def meets(self, other: Placed) -> bool:
        """Whether the two boxes have a point in common."""
        return (
            self.left < other.left + other.width
            and other.left < self.left + self.width
            and self.top < other.top + other.height
            and other.top < self.top + self.height
        )


def word_cloud(words: Sequence[tuple[str, int]], *, title: str, width: int = WIDE, height: int = 400) -> str:
    """The cloud of ``words`` with their counts; those that find no room are left out, as the description says."""
    placed = layout(words, width, height - TOP)
    lowest = min((word.top for word in placed), default=0.0)
    used = max((word.top + word.height for word in placed), default=24.0) - lowest
    body = [_text(word, TOP - lowest, paint(COLOURS[rank % len(COLOURS)])) for rank, word in enumerate(placed)]
    described = f"{len(placed)} of {len(words)} words, the largest the most frequent: " + ", ".join(
        f"{word.word} {word.count:,}" for word in placed[:20]
    )
    svg = svg_element(title, described, width, math.ceil(TOP + used) + 6, body)
    # a chart keeps a least width for its numbers' sake; a small cloud may shrink to a narrow page
    return svg.replace('class="chart"', 'class="chart" style="min-width: 0"', 1) if width <= HALF else svg


def layout(words: Sequence[tuple[str, int]], width: float, height: float) -> list[Placed]:
    """Where each of ``words`` goes on a canvas of this size, the most frequent first; no two boxes meet."""
    ranked = sorted(((printable(word), count) for word, count in words), key=lambda entry: (-entry[1], entry[0]))
    ranked = [(word, count) for word, count in ranked if 0 < len(word) <= LONGEST]
    placed: list[Placed] = []
    for word, count in ranked:
        size = font_size(count, ranked[0][1], ranked[-1][1])
        box = _first_free(word, count, size, placed, width, height)
        if box is not None:
            placed.append(box)
    return placed


def font_size(count: int, most: int, least: int) -> float:
    """Between ``SMALLEST`` and ``LARGEST``, by the square root of the count: by the area of the word, about."""
    if most == least:
        return (LARGEST + SMALLEST) / 2
    low, high = math.sqrt(least), math.sqrt(most)
    return round(SMALLEST + (LARGEST - SMALLEST) * (math.sqrt(count) - low) / (high - low), 1)


def _first_free(word: str, count: int, size: float, placed: list[Placed], width: float, height: float) -> Placed | None:
    """The first box along the spiral that lies on the canvas and meets none."""
    wide, tall = _width(word, size) + 0.3 * size, 1.02 * size
    met: Placed | None = None
    turn, stretch = 0.0, width / height
    while True:
        radius = 1.6 * turn
        if radius > height:
            return None
        left = width / 2 + radius * stretch * math.cos(turn) - wide / 2
        top = height / 2 + radius * math.sin(turn) - tall / 2
        turn += min(0.5, 6.0 / max(4.0, radius))
        if left < 0 or top < 0 or left + wide > width or top + tall > height:
            continue
        box = Placed(word, count, size, left, top, wide, tall)
        if met is not None and box.meets(met):  # mostly it is the same word that is in the way
            continue
        met = next((other for other in placed if box.meets(other)), None)
        if met is None:
            return box


def _width(word: str, size: float) -> float:
    """About how wide the word is; the drawing then makes it exactly that."""
    return size * sum(_character_width(char) for char in word)


def _character_width(char: str) -> float:
    for chars, share in _WIDTHS.items():
        if char in chars:
            return share
    if ord(char) >= 0x2E80:  # Han, kana, Hangul and other square letters
        return 1.0
    return 0.7 if char.isupper() else 0.61


def _text(word: Placed, down: float, colour: str) -> str:
    inner = word.width - 0.3 * word.size
    return (
        f'<text x="{word.left + 0.15 * word.size:.1f}" y="{word.top + down + 0.78 * word.size:.1f}" '
        f'font-size="{word.size:g}" font-weight="600" textLength="{inner:.1f}" lengthAdjust="spacingAndGlyphs" '
        f'fill="{colour}"><title>{escape(f"{word.word}: {word.count:,}")}</title>{escape(word.word)}</text>'
    )
