"""Estimates with their intervals, a row each: the forest plot of a comparison, or the scores of one model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from folio.reports.drawing import GRID, INK, MUTED, WIDE, paint, printable, shorten, svg_element, text_width
from folio.reports.scales import Scale, make_scale, short_number


@dataclass(frozen=True, slots=True)
class Interval:
    """One row: an estimate between ``low`` and ``high``, with a few words at its right. Ends may be no numbers."""

    label: str
    value: float
    low: float
    high: float
    note: str = ""
    colour: int = 0


def interval_chart(
    rows: Sequence[Interval],
    *,
    title: str,
    x_label: str = "",
    reference: float | None = None,
    width: int = WIDE,
    row_height: int = 28,
) -> str:
    """A dot for each estimate and a line over its interval, with an upright at ``reference`` (zero: no difference).

    A row whose estimate is no number is drawn as words alone; one without an interval, as a dot.
    """
    labels = [shorten(row.label, 44) for row in rows]
    notes = [shorten(row.note, 36) for row in rows]
    left = 18 + max((text_width(label) for label in labels), default=0)
    right = 24 + max((text_width(note) for note in notes), default=0)
    ends = [end for row in rows for end in (row.value, row.low, row.high)]
    marks = [] if reference is None else [reference]
    x = make_scale([*ends, *marks], left, max(left + 80, width - right), spacing=90)
    top, floor = 44, 44 + row_height * max(1, len(rows))
    body = [*_uprights(x, top, floor, x_label)]
    if reference is not None:
        at = x(reference)
        body.append(
            f'<path d="M{at:.1f} {top}V{floor}" stroke="var(--muted, #5d656d)" stroke-width="1.5" '
            'stroke-dasharray="4 3"/>'
        )
    for index, (row, label, note) in enumerate(zip(rows, labels, notes, strict=True)):
        body.append(_row(row, label, note, x, top + row_height * (index + 0.5)))
    described = "; ".join(f"{row.label}: {_in_numbers(row)}" + (f", {row.note}" if row.note else "") for row in rows)
    return svg_element(title, f"{x_label}. {described}", width, floor + 44, body)


def _uprights(x: Scale, top: int, floor: int, x_label: str) -> list[str]:
    parts = []
    for value, text in x.ticks:
        at = x(value)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{floor}" {GRID}/>')
        parts.append(f'<text x="{at:.1f}" y="{floor + 16}" text-anchor="middle" {MUTED}>{text}</text>')
    parts.append(
        f'<text x="{x.end:.1f}" y="{floor + 34}" text-anchor="end" {MUTED}>{escape(printable(x_label))}</text>'
    )
    return parts


def _row(row: Interval, label: str, note: str, x: Scale, middle: float) -> str:
    colour = paint(row.colour)
    tip = escape(printable(f"{row.label}: {_in_numbers(row)}"))
    parts = [f'<text x="{x.start - 12:.1f}" y="{middle + 4:.1f}" text-anchor="end" {INK}>{escape(label)}</text>']
    if math.isfinite(row.low) and math.isfinite(row.high):
        parts += [
            f'<line class="interval" x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{middle:.1f}" y2="{middle:.1f}" '
            f'stroke="{colour}" stroke-width="2"/>',
            *(
                f'<path d="M{x(end):.1f} {middle - 4:.1f}v8" stroke="{colour}" stroke-width="2"/>'
                for end in (row.low, row.high)
            ),
        ]
    if math.isfinite(row.value):
        parts.append(f'<circle cx="{x(row.value):.1f}" cy="{middle:.1f}" r="4.5" fill="{colour}"/>')
    if note:
        parts.append(f'<text x="{x.end + 12:.1f}" y="{middle + 4:.1f}" fill="{colour}">{escape(note)}</text>')
    return f"<g><title>{tip}</title>{''.join(parts)}</g>"


def _in_numbers(row: Interval) -> str:
    if not math.isfinite(row.value):
        return "no value"
    if not (math.isfinite(row.low) and math.isfinite(row.high)):
        return short_number(row.value)
    return f"{short_number(row.value)} (95 % {short_number(row.low)} to {short_number(row.high)})"
