"""The figure of a ladder: speed as stairs, coloured by what was changed, and under each stair what its rung learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from folio.reports.drawing import GRID, INK, MUTED, WIDE, direct_labels, paint, printable, svg_element
from folio.reports.scales import Scale, make_scale, short_number
from folio.studies.ladder.results import Findings, Loss, Row
from folio.studies.ladder.rungs import KINDS, Kind

STEEP = 12.0
"""From so many times the bottom on, the stairs stand on a logarithmic axis."""
LEFT, RIGHT = 66, 148
TOP, FLOOR = 84, 340
LOSS_TOP, LOSS_FLOOR = 384, 536
HEIGHT = 616
ROOM = 84.0
"""For the ratio of a top to the bottom, which stands above all stairs that it would cross."""
LOSSES: tuple[tuple[str, int, Callable[[Row], Loss | None]], ...] = (
    ("equal steps", 0, lambda row: row.loss),
    ("equal time", 1, lambda row: row.equal_time),
)


def staircase(found: Findings, title: str = "") -> str:
    """Tokens/s of every measured rung, its ratio to the rung below over it; losses on a panel below, where measured.

    A rung that was taken out again is a dashed outline. No SVG scripts: each stair tells its numbers in a tooltip.
    """
    rows = [row for row in found.rows if row.tokens_per_s is not None]
    pitch = (WIDE - LEFT - RIGHT) / max(1, len(rows))
    speeds = [row.tokens_per_s or 0.0 for row in rows]
    steep = bool(speeds) and max(speeds) > STEEP * min(speeds)
    y = make_scale([*([] if steep else [0.0]), *speeds], FLOOR, TOP, log=steep, spacing=46)
    body = [f'<text x="2" y="58" {MUTED}>tokens/s</text>', *_legend(rows), *_lines(y)]
    body += _stairs(rows, y, pitch)
    learned = any(row.loss or row.equal_time for row in rows)
    if learned:
        body += _losses(rows, pitch)
    floor = LOSS_FLOOR if learned else FLOOR
    for index, row in enumerate(rows):
        x = LEFT + (index + 0.62) * pitch
        body.append(
            f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="end" {INK if row.state == "kept" else MUTED} '
            f'transform="rotate(-42 {x:.1f} {floor + 16})">{escape(row.name)}</text>'
        )
    described = "; ".join(_in_words(row) for row in rows)
    height = HEIGHT if learned else HEIGHT - LOSS_FLOOR + FLOOR
    return svg_element(title or "The ladder", f"Tokens/s by rung. {described}", WIDE, height, body)


def colour_of(kind: Kind) -> str:
    return paint((KINDS.index(kind) - 1) % len(KINDS))


def _legend(rows: Sequence[Row]) -> list[str]:
    parts, x = [], float(LEFT)
    for kind in KINDS:
        if any(row.kind == kind for row in rows):
            parts.append(f'<rect x="{x:.0f}" y="31" width="11" height="11" rx="2" fill="{colour_of(kind)}"/>')
            parts.append(f'<text x="{x + 16:.0f}" y="41" {MUTED}>{kind}</text>')
            x += 36 + 7 * len(kind)
    if any(row.state == "taken out" for row in rows):
        parts.append(
            f'<rect x="{x:.0f}" y="31" width="11" height="11" rx="2" fill="none" stroke="var(--muted, #5d656d)" '
            f'stroke-dasharray="3 2"/><text x="{x + 16:.0f}" y="41" {MUTED}>measured, not kept</text>'
        )
    return parts


def _lines(y: Scale) -> list[str]:
    parts = []
    for value, text in y.ticks:
        parts.append(f'<line x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" {GRID}/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end" {MUTED}>{text}</text>')
    return parts


def _stairs(rows: Sequence[Row], y: Scale, pitch: float) -> list[str]:
    parts, before, highest = [], None, _ends(rows)
    for index, row in enumerate(rows):
        left, at, colour = LEFT + index * pitch, y(row.tokens_per_s or 0.0), colour_of(row.kind)
        kept = row.state == "kept"
        look = (
            f'fill="{colour}" fill-opacity="0.24"'
            if kept
            else f'fill="none" stroke="{colour}" stroke-width="1.3" stroke-dasharray="4 3"'
        )
        shapes = [f'<rect x="{left + 1:.1f}" y="{at:.1f}" width="{pitch - 2:.1f}" height="{y.start - at:.1f}" {look}/>']
        if kept:
            if before is not None:
                shapes.append(f'<path d="M{left:.1f} {before:.1f}V{at:.1f}" stroke="var(--muted, #5d656d)"/>')
            shapes.append(f'<path d="M{left:.1f} {at:.1f}h{pitch:.1f}" stroke="{colour}" stroke-width="3"/>')
            before = at
        middle = left + pitch / 2
        if row.to_below is not None:
            shapes.append(
                f'<text x="{middle:.1f}" y="{at - 7:.1f}" text-anchor="middle" font-size="11" class="halo" '
                f"{INK if kept else MUTED}>{ratio_text(row.to_below.middle)}</text>"
            )
        if row in highest and row.to_bottom is not None:
            under = range(max(0, index - math.ceil(ROOM / pitch) + 1), index + 1)
            clear = min(y(rows[n].tokens_per_s or 0.0) for n in under) - 23
            shapes.append(
                f'<text x="{left + pitch:.1f}" y="{clear:.1f}" text-anchor="end" font-weight="600" class="halo" '
                f'fill="{colour}">{short_number(float(f"{row.to_bottom.middle:.3g}"))} x plain</text>'
            )
        parts.append(f"<g><title>{escape(printable(_in_words(row)))}</title>{''.join(shapes)}</g>")
    parts.append(
        f'<line x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{y.start}" y2="{y.start}" stroke="var(--muted, #5d656d)"/>'
    )
    return parts


def _ends(rows: Sequence[Row]) -> list[Row]:
    """The rungs whose ratio to the bottom is written out: the top of the speed part, and the top of all."""
    kept = [row for row in rows if row.state == "kept"]
    speed = [row for row in kept if row.speed_part]
    return [part[-1] for part in (speed, kept) if len(part) > 1]


def _losses(rows: Sequence[Row], pitch: float) -> list[str]:
    known = [loss for row in rows for _, _, get in LOSSES if (loss := get(row)) and math.isfinite(loss.nats)]
    ends = [loss.nats + sign * (loss.standard_error or 0) for loss in known for sign in (-1, 1)]
    y = make_scale([end for end in ends if math.isfinite(end)], LOSS_FLOOR, LOSS_TOP, spacing=38)
    parts = [f'<text x="2" y="{LOSS_TOP - 14}" {MUTED}>held-out loss, nats per token</text>', *_lines(y)]
    labels = []
    for number, (name, colour_index, get) in enumerate(LOSSES):
        colour, places = paint(colour_index), []
        dots: list[str] = []
        for index, row in enumerate(rows):
            loss = get(row)
            if loss is None or not math.isfinite(loss.nats):
                continue
            x, at = LEFT + (index + 0.42 + 0.16 * number) * pitch, y(loss.nats)
            if row.state == "kept":
                places.append(f"{x:.1f},{at:.1f}")
            if math.isfinite(loss.standard_error):
                reach = abs(y(loss.nats + loss.standard_error) - at)
                dots.append(f'<path d="M{x:.1f} {at - reach:.1f}V{at + reach:.1f}" stroke="{colour}"/>')
            tip = f"{row.name}, {name}: {loss.nats:.4f} ± {loss.standard_error:.4f} after {loss.steps:,} steps"
            dots.append(
                f'<circle cx="{x:.1f}" cy="{at:.1f}" r="3.6" fill="{colour}"><title>{escape(tip)}</title></circle>'
            )
            last = at
        parts.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-opacity="0.45"/>')
        parts += dots
        if dots:
            labels.append((last, name, colour))
    return [*parts, *direct_labels(labels, WIDE - RIGHT + 10, y)]


def ratio_text(ratio: float) -> str:
    """``1.66``, ``24.1``, ``386``, with a sign of multiplication."""
    return f"×{ratio:.{2 if ratio < 9.995 else 1 if ratio < 99.95 else 0}f}"


def _in_words(row: Row) -> str:
    below = f", {ratio_text(row.to_below.middle)} of {row.on}" if row.to_below else ""
    bottom = f", {ratio_text(row.to_bottom.middle)} of the bottom" if row.to_bottom else ""
    kept = "" if row.state == "kept" else ", not kept"
    return f"{row.name}: {short_number(row.tokens_per_s or 0.0)} tokens/s{below}{bottom}{kept}"
