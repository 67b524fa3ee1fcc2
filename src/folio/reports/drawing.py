"""The parts that charts share: the SVG around them, axes with gridlines, labels at the ends of curves, colours."""

from __future__ import annotations

import json
from html import escape

from folio.reports.scales import Scale

WIDE = 1080
HALF = 528
# Okabe and Ito (2008), darkened where the original is too faint on white: told apart with any kind of colour vision.
LIGHT_PALETTE = ("#0072b2", "#d55e00", "#00855f", "#b8468a", "#a87400", "#3d8fc4", "#6a51c4", "#5f6468")
DARK_PALETTE = ("#5ab4f0", "#f28c45", "#34c795", "#e795c4", "#e9b949", "#9fd3f7", "#ac9bf3", "#b3b8bd")
FONT = 12

INK = 'fill="var(--ink, #1d2126)"'
MUTED = 'fill="var(--muted, #5d656d)"'
GRID = 'stroke="var(--grid, #e3e6e8)"'


def svg_element(title: str, description: str, width: int, height: int, body: list[str], data: object = None) -> str:
    """The whole chart from its parts. ``data``, as JSON, is what the page's script shows under the pointer."""
    points = f' data-points="{escape(printable(json.dumps(data, separators=(",", ":"))))}"' if data else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" '
        f"font-family=\"system-ui, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif\" "
        f'font-size="{FONT}"{points}><title>{escape(printable(title))}</title>'
        f"<desc>{escape(printable(description))}</desc>"
        f'<text x="2" y="18" font-size="14" font-weight="600" {INK}>{escape(printable(title))}</text>'
        + "".join(body)
        + "</svg>"
    )


def axes(x: Scale, y: Scale, x_label: str, y_label: str) -> list[str]:
    """Gridlines across, ticks below, and what the axes mean."""
    parts = [f'<text x="2" y="36" {MUTED}>{escape(printable(y_label))}</text>']
    for value, text in y.ticks:
        at = y(value)
        parts.append(f'<line x1="{x.start:.1f}" x2="{x.end:.1f}" y1="{at:.1f}" y2="{at:.1f}" {GRID}/>')
        parts.append(f'<text x="{x.start - 8:.1f}" y="{at + 4:.1f}" text-anchor="end" {MUTED}>{text}</text>')
    floor = y.start
    parts.append(
        f'<line x1="{x.start:.1f}" x2="{x.end:.1f}" y1="{floor}" y2="{floor}" stroke="var(--muted, #5d656d)"/>'
    )
    for value, text in x.ticks:
        at = x(value)
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{floor}" y2="{floor + 5}" stroke="var(--muted, #5d656d)"/>'
        )
        parts.append(f'<text x="{at:.1f}" y="{floor + 18}" text-anchor="middle" {MUTED}>{text}</text>')
    parts.append(
        f'<text x="{x.end:.1f}" y="{floor + 36}" text-anchor="end" {MUTED}>{escape(printable(x_label))}</text>'
    )
    return parts


def direct_labels(ends: list[tuple[float, str, str]], left: float, y: Scale) -> list[str]:
    """Labels beside the curves' ends, moved apart where they would overlap."""
    ends = sorted(ends)
    gap = min(15.0, (y.start - y.end) / max(1, len(ends)))
    places: list[float] = []
    for at, _, _ in ends:
        places.append(max(at, places[-1] + gap) if places else at)
    limit = y.start
    for index in reversed(range(len(places))):
        places[index] = min(places[index], limit)
        limit = places[index] - gap
    return [
        f'<text x="{left:.1f}" y="{at + 4:.1f}" font-weight="600" fill="{colour}">{escape(label)}</text>'
        for at, (_, label, colour) in zip(places, ends, strict=True)
    ]


def paint(index: int) -> str:
    """The CSS colour of the series at ``index``; after eight they repeat."""
    index %= len(LIGHT_PALETTE)
    return f"var(--series-{index}, {LIGHT_PALETTE[index]})"


def text_width(text: str) -> float:
    """About how many pixels the text takes at the charts' size."""
    return 0.58 * FONT * len(text)


def shorten(label: str, limit: int = 28) -> str:
    label = printable(label)
    return label if len(label) <= limit else label[: limit - 1] + "…"


def printable(text: str) -> str:
    """The text without characters that XML forbids: control characters and lone surrogates become ``�``."""
    return "".join(c if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff" else "�" for c in text)
