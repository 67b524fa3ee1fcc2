"""Charts as strings of inline SVG: pure functions of their data, drawn in the colours of the page they stand on.

Colours are CSS custom properties with a fallback, so one SVG serves a light page, a dark one, and a file of its own
(:func:`standalone`). Every chart has a ``<title>`` and a ``<desc>``; the page's script shows exact values on hover.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from folio.reports.drawing import (
    DARK_PALETTE,
    HALF,
    INK,
    MUTED,
    WIDE,
    axes,
    direct_labels,
    paint,
    printable,
    shorten,
    svg_element,
    text_width,
)
from folio.reports.scales import Point, Scale, make_scale, runs_of_points, short_number, thin

__all__ = ["HALF", "WIDE", "Series", "bar_chart", "histogram", "line_chart", "standalone"]


@dataclass(frozen=True, slots=True)
class Series:
    """One curve. ``faint`` draws it thin, behind and without a label at its end; ``dots`` marks its points.

    ``colour`` is 0..7, or None for its place among the curves. ``labelled``: whether the label stands at its end; None
    if it is not faint.
    """

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    faint: bool = False
    dots: bool = False
    dashed: bool = False
    colour: int | None = None
    labelled: bool | None = None


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    log_x: bool = False,
    log_y: bool = False,
    width: int = WIDE,
    height: int = 360,
) -> str:
    """Curves over a common x, each labelled at its right end. Values that cannot be drawn leave a gap.

    Long curves are thinned to the pixels there are, keeping every low and high point.
    """
    pieces = [runs_of_points(one.xs, one.ys, log_x=log_x, log_y=log_y) for one in series]
    points = [point for curve in pieces for piece in curve for point in piece]
    labels = ["" if _is_unlabelled(one) else shorten(one.label) for one in series]
    right = 26 + max((text_width(label) + 10 for label in labels if label), default=0)
    y = make_scale((p[1] for p in points), height - 44, 54, log=log_y, spacing=42)
    left = 14 + max((text_width(text) for _, text in y.ticks), default=0)
    x = make_scale((p[0] for p in points), left, width - right, log=log_x, round_out=False, spacing=96)
    body = axes(x, y, x_label, y_label)
    ends: list[tuple[float, str, str]] = []
    hover = []
    order = sorted(range(len(series)), key=lambda index: not series[index].faint)
    for index in order:
        one, colour = series[index], _colour(series[index], index)
        thinned = [thin(piece, max(8, int(width - right - left) // 2)) for piece in pieces[index]]
        body.append(_curve(one, colour, thinned, x, y))
        if thinned and labels[index]:
            ends.append((y(thinned[-1][-1][1]), labels[index], colour))
        flat = [[_rounded(px), _rounded(py)] for piece in thinned for px, py in piece]
        hover.append({"label": one.label, "colour": colour, "points": flat})
    body += direct_labels(ends, x.end + 8, y)
    if not points:
        body.append(
            f'<text x="{(x.start + x.end) / 2:.0f}" y="{height / 2:.0f}" text-anchor="middle" {MUTED}>no values</text>'
        )
    data = {"x": _plain(x, x_label), "y": _plain(y, y_label), "series": hover}
    described = "; ".join(_describe(one, curve) for one, curve in zip(series, pieces, strict=True))
    return svg_element(title, f"{y_label} over {x_label}. {described}", width, height, body, data)


def histogram(
    values: Sequence[float],
    *,
    title: str,
    x_label: str = "",
    y_label: str = "count",
    bins: int = 40,
    log_x: bool = False,
    quantiles: Sequence[float] = (0.5, 0.9, 0.99),
    marks: Sequence[tuple[str, float]] = (),
    colour: int = 0,
    width: int = HALF,
    height: int = 280,
) -> str:
    """How often each range of values occurs, with dashed lines at the ``quantiles``; ``log_x`` drops values up to 0.

    ``marks`` are other numbers to compare with, a line each, by name; the axis goes as far as they do.
    """
    kept = sorted(v for v in (float(value) for value in values) if math.isfinite(v) and (v > 0 or not log_x))
    own = make_scale(kept, 0, 1, log=log_x, round_out=False)
    counts = [0] * bins
    for value in kept:
        counts[min(bins - 1, int(own(value) * bins))] += 1
    y = make_scale([0, *counts], height - 44, 62, spacing=48)
    left = 14 + max(text_width(text) for _, text in y.ticks)
    others = [(name, value) for name, value in marks if kept and (value > 0 or not log_x)]
    x = make_scale(
        [own.low, own.high, *(value for _, value in others)], left, width - 24, log=log_x, round_out=False, spacing=80
    )
    body = axes(x, y, x_label, y_label)
    first, pitch = x(own.low), (x(own.high) - x(own.low)) / bins
    for index, count in enumerate(counts):
        edges = " to ".join(short_number(_value_at(own, (index + side) / bins)) for side in (0, 1))
        tip = f"<title>{escape(f'{edges}: {count:,}')}</title>"
        top = y(count)
        body.append(
            f'<rect x="{first + index * pitch + 0.5:.1f}" y="{top:.1f}" width="{max(0.5, pitch - 1):.1f}" '
            f'height="{y.start - top:.1f}" fill="{paint(colour)}" fill-opacity="0.85">{tip}</rect>'
        )
    found = [(q, kept[min(len(kept) - 1, int(q * len(kept)))]) for q in quantiles if kept]
    told = [("median" if q == 0.5 else f"{q * 100:g} %", value, 'stroke-dasharray="4 3"') for q, value in found]
    told += [(name, value, "") for name, value in others]
    other = paint(0 if colour == 1 else 1)
    for _, value, dashes in told:
        body.append(f'<path d="M{x(value):.1f} 46V{y.start}" stroke="{other}" {dashes}/>')
    for row, (name, value, _) in enumerate(told):
        at = x(value)
        anchor = "end" if at > (x.start + x.end) / 2 else "start"
        shift = -5 if anchor == "end" else 5
        body.append(
            f'<text x="{at + shift:.1f}" y="{54 + 14 * row}" text-anchor="{anchor}" fill="{other}" '
            f'class="halo">{escape(f"{name}: {short_number(value)}")}</text>'
        )
    described = f"{len(kept):,} values; " + ", ".join(
        [f"quantile {q:g}: {short_number(v)}" for q, v in found] + [f"{n}: {short_number(v)}" for n, v in others]
    )
    return svg_element(title, described, width, height, body)


def bar_chart(
    values: Mapping[str, float],
    *,
    title: str,
    value_label: str = "",
    colour: int = 0,
    width: int = HALF,
    row_height: int = 22,
) -> str:
    """One horizontal bar a row from zero, in the order given, with its number beside it. Negative values count as 0."""
    labels = [shorten(label) for label in values]
    numbers = [value if math.isfinite(value) else 0.0 for value in values.values()]
    texts = [short_number(value) for value in values.values()]
    left = 14 + max((text_width(label) for label in labels), default=0)
    right = 20 + max((text_width(text) for text in texts), default=0)
    height = 58 + row_height * max(1, len(labels))
    x = make_scale([0.0, max([0.0, *numbers]) or 1.0], left, width - right, round_out=False)
    body = [f'<text x="{left}" y="38" {MUTED}>{escape(printable(value_label))}</text>']
    for row, (full, label, number, text) in enumerate(zip(values, labels, numbers, texts, strict=True)):
        top, end = 48 + row * row_height, x(max(0.0, number))
        middle = top + row_height / 2 + 4
        body.append(
            f"<g><title>{escape(printable(f'{full}: {values[full]:,}'))}</title>"
            f'<text x="{left - 8}" y="{middle:.1f}" text-anchor="end" {INK}>{escape(label)}</text>'
            f'<rect x="{left}" y="{top + 2}" width="{max(1.0, end - left):.1f}" height="{row_height - 5}" rx="2" '
            f'fill="{paint(colour)}" fill-opacity="0.85"/>'
            f'<text x="{end + 7:.1f}" y="{middle:.1f}" {MUTED}>{text}</text></g>'
        )
    return svg_element(title, f"{len(labels)} bars. {value_label}", width, height, body)


def standalone(svg: str) -> str:
    """The chart as a file of its own, with colours for light and dark schemes inside."""
    dark = " ".join(f"--series-{index}: {paint};" for index, paint in enumerate(DARK_PALETTE))
    style = (
        "<style>svg { color: #1d2126; background: #fff; } @media (prefers-color-scheme: dark) { "
        f"svg {{ color: #e4e6e8; background: #15181c; --ink: #e4e6e8; --muted: #9aa2aa; --grid: #2b3138; "
        f"--paper: #15181c; {dark} }} }}</style>"
    )
    opening, rest = svg.split(">", 1)
    return f"{opening}>{style}{rest}\n"


def _curve(one: Series, colour: str, pieces: list[list[Point]], x: Scale, y: Scale) -> str:
    style = 'stroke-width="1" stroke-opacity="0.35"' if one.faint else 'stroke-width="2"'
    if one.dashed:
        style += ' stroke-dasharray="6 4"'
    parts = []
    for piece in pieces:
        places = [f"{x(px):.1f},{y(py):.1f}" for px, py in piece]
        if len(places) > 1:
            parts.append(
                f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-linejoin="round" {style}/>'
            )
        if len(places) == 1 or (one.dots and len(places) <= 60):
            parts += [
                f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="3.5" fill="{colour}"/>' for p in places
            ]
    return f'<g class="series">{"".join(parts)}</g>'


def _describe(one: Series, pieces: list[list[Point]]) -> str:
    points = [point for piece in pieces for point in piece]
    if not points:
        return f"{one.label}: no values"
    lowest = min(point[1] for point in points)
    return (
        f"{one.label or 'curve'}: {len(points):,} points, first {short_number(points[0][1])}, "
        f"last {short_number(points[-1][1])}, lowest {short_number(lowest)}"
    )


def _plain(scale: Scale, label: str) -> dict[str, object]:
    return {
        "low": scale.low,
        "high": scale.high,
        "start": scale.start,
        "end": scale.end,
        "log": scale.log,
        "label": label,
    }


def _value_at(scale: Scale, share: float) -> float:
    if scale.log:
        return float(scale.low * (scale.high / scale.low) ** share)
    return scale.low + share * (scale.high - scale.low)


def _is_unlabelled(one: Series) -> bool:
    return one.faint if one.labelled is None else not one.labelled


def _colour(one: Series, index: int) -> str:
    return paint(index if one.colour is None else one.colour)


def _rounded(value: float) -> float:
    return float(f"{value:.8g}")
