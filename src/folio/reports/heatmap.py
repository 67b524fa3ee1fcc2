"""A square of numbers between -1 and 1 as a heat map: inline SVG in the colours of the page, as the other charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from folio.reports.drawing import HALF, INK, MUTED, paint, printable, shorten, svg_element, text_width

DEEPEST = 0.6
"""How opaque the colour of -1 and 1 is: what is written on it stays legible, on light and on dark pages."""
TOP, BELOW = 34, 46
LEGEND_STEPS = 21


def heat_map(
    labels: Sequence[str], values: Sequence[Sequence[float]], *, title: str, value_label: str = "", width: int = HALF
) -> str:
    """``values[row][column]`` in [-1, 1], a cell each with its number: blue above zero, orange below.

    What is no number is a blank cell.
    """
    names = [shorten(visible(label), 14) for label in labels]
    widest = max((text_width(name) for name in names), default=0)
    left, top = 14 + widest, TOP + 14 + 0.7 * widest
    right = max(30.0, 0.7 * text_width(names[-1]) - 4) if names else 30.0
    size = (width - left - right) / max(1, len(names))
    body = []
    for row, (name, numbers) in enumerate(zip(names, values, strict=True)):
        y, middle = top + row * size, left + (row + 0.5) * size
        body.append(
            f'<text x="{left - 8:.1f}" y="{y + size / 2 + 4:.1f}" text-anchor="end" {INK}>{escape(name)}</text>'
        )
        body.append(f'<text transform="translate({middle:.1f} {top - 8:.1f}) rotate(-45)" {INK}>{escape(name)}</text>')
        for column, value in enumerate(numbers):
            told = f"{visible(labels[row])} and {visible(labels[column])}: {written(value, 4)}"
            body.append(_cell(left + column * size, y, size, value, told))
    bottom = top + len(names) * size
    body += _legend(left, bottom + 16, min(220.0, width - left - 100), value_label)
    described = "; ".join(_strongest(labels, values)) or "no values"
    return svg_element(title, f"{value_label} of {len(names)} words. {described}", width, round(bottom + BELOW), body)


def _cell(x: float, y: float, size: float, value: float, told: str) -> str:
    number = (
        f'<text x="{x + size / 2:.1f}" y="{y + size / 2 + 4:.1f}" text-anchor="middle" {INK}>{written(value, 2)}</text>'
        if size >= 30
        else ""
    )
    return (
        f"<g><title>{escape(printable(told))}</title>"
        f'<rect x="{x + 0.5:.1f}" y="{y + 0.5:.1f}" width="{size - 1:.1f}" height="{size - 1:.1f}" {_fill(value)}/>'
        f"{number}</g>"
    )


def _fill(value: float) -> str:
    if not math.isfinite(value):
        return 'fill="none"'
    depth = DEEPEST * min(1.0, abs(value))
    return f'fill="{paint(0 if value >= 0 else 1)}" fill-opacity="{depth:.3f}"'


def _legend(left: float, top: float, width: float, label: str) -> list[str]:
    step = width / LEGEND_STEPS
    parts = [
        f'<rect x="{left + index * step:.1f}" y="{top:.1f}" width="{step:.1f}" height="9" '
        f"{_fill(2 * index / (LEGEND_STEPS - 1) - 1)}/>"
        for index in range(LEGEND_STEPS)
    ]
    for place, text in ((0.0, "−1"), (0.5, "0"), (1.0, "1")):
        parts.append(
            f'<text x="{left + place * width:.1f}" y="{top + 24:.1f}" text-anchor="middle" {MUTED}>{text}</text>'
        )
    parts.append(f'<text x="{left + width + 14:.1f}" y="{top + 9:.1f}" {MUTED}>{escape(printable(label))}</text>')
    return parts


def _strongest(labels: Sequence[str], values: Sequence[Sequence[float]]) -> list[str]:
    """The three pairs furthest from zero, in words."""
    pairs = [
        (value, visible(labels[row]), visible(labels[column]))
        for row, numbers in enumerate(values)
        for column, value in enumerate(numbers)
        if column > row and math.isfinite(value)
    ]
    pairs.sort(key=lambda pair: -abs(pair[0]))
    return [f"{one} and {other} {written(value, 2)}" for value, one, other in pairs[:3]]


def visible(label: str) -> str:
    """The label with line breaks as they are written in code."""
    return (
        label.replace("\n", "\\n").replace("\r", "\\r").replace("\f", "\\f").replace("\v", "\\v").replace("\t", "\\t")
    )


def written(value: float, decimals: int) -> str:
    """The number with a minus sign, and without one where it rounds to zero."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")
