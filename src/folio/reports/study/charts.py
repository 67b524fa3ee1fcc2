"""Charts of a study: means with bands over an axis, and points in the plane of two numbers, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from folio.reports.drawing import (
    FONT,
    HALF,
    axes,
    direct_labels,
    paint,
    printable,
    shorten,
    svg_element,
    text_width,
)
from folio.reports.scales import Scale, label_ticks, make_scale, short_number

MOST_TICKS = 7
"""With no more values than this on an axis each has its own tick."""


@dataclass(frozen=True, slots=True)
class Place:
    """A mean at ``x`` with the ends of its interval; ends that are no numbers draw no band."""

    x: float
    y: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class Line:
    """Means that belong together, from left to right. One that is ``quiet`` has no band and no name at its end."""

    label: str
    places: Sequence[Place]
    colour: int = 0
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Dots:
    """Points of one colour, each with words that show under the pointer; a line through ``middle``, if any."""

    label: str
    points: Sequence[tuple[float, float, str]]
    colour: int = 0
    middle: Sequence[tuple[float, float]] = ()


Level = tuple[str, float]
"""A horizontal line to compare with, and its name."""


def band_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    names: Sequence[str] = (),
    beside: Sequence[Line] = (),
    level: Level | None = None,
    width: int = HALF,
    height: int = 320,
) -> str:
    """A line for each, a band over its intervals, a dot with its numbers at each mean.

    ``names`` stand under 0, 1, 2, ... where the axis has words for values. A band that is many times as high as all
    means are apart is cut off at the frame, or the lines could not be told apart. With the lines of the panels
    ``beside`` this one, all of them have one range, and can be compared.
    """
    every = [*lines, *beside]
    heights = [*_heights(every), *([] if level is None else [level[1]])]
    at_ends = [shorten(line.label) for line in every if not line.quiet]
    across = [p.x for line in every for p in line.places]
    x, y = _scales(across, heights, at_ends, log_x, names, width, height, labelled=True)
    body, finals = axes(x, y, x_label, y_label), list[tuple[float, str, str]]()
    for line in lines:
        colour, places = paint(line.colour), [p for p in line.places if math.isfinite(p.y)]
        body += [] if line.quiet else _bands(places, colour, x, y)
        dots = " ".join(f"{x(p.x):.1f},{y(p.y):.1f}" for p in places)
        stroke = 'stroke-width="1" stroke-opacity="0.6"' if line.quiet else 'stroke-width="2"'
        body.append(f'<polyline points="{dots}" fill="none" stroke="{colour}" {stroke}/>')
        for p in places:
            at = names[int(p.x)] if names else short_number(p.x)
            tip = escape(printable(f"{line.label}, {x_label} {at}: {_in_numbers(p)}"))
            circle = f'<circle cx="{x(p.x):.1f}" cy="{y(p.y):.1f}" r="{2.5 if line.quiet else 4}" fill="{colour}"/>'
            body.append(f"<g><title>{tip}</title>{circle}</g>")
        if places and line.label and not line.quiet:
            finals.append((y(places[-1].y), shorten(line.label), colour))
    body += _level(level, x, y) + direct_labels(finals, x.end + 8, y)
    described = "; ".join(f"{line.label}: {', '.join(map(_in_numbers, line.places))}" for line in lines)
    return svg_element(title, f"{y_label} over {x_label}. {described}", width, height, body)


def dot_chart(
    groups: Sequence[Dots],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = True,
    names: Sequence[str] = (),
    beside: Sequence[Dots] = (),
    level: Level | None = None,
    width: int = HALF,
    height: int = 300,
) -> str:
    """A dot for each point, coloured by group, with the groups named at the right.

    ``names``, ``beside`` and ``level`` are as in :func:`band_chart`.
    """
    points = [point for group in [*groups, *beside] for point in group.points]
    at_ends = [shorten(group.label) for group in [*groups, *beside]]
    heights = [p[1] for p in points] + ([] if level is None else [level[1]])
    x, y = _scales([p[0] for p in points], heights, at_ends, log_x, names, width, height)
    body, named = axes(x, y, x_label, y_label), list[tuple[float, str, str]]()
    for group in groups:
        colour = paint(group.colour)
        for px, py, words in group.points:
            if math.isfinite(px) and math.isfinite(py) and (px > 0 or not log_x):
                at = names[int(px)] if names else short_number(px)
                tip = escape(printable(f"{words}: {short_number(py)} at {at}"))
                circle = f'<circle cx="{x(px):.1f}" cy="{y(py):.1f}" r="4" fill="{colour}" fill-opacity="0.7"/>'
                body.append(f"<g><title>{tip}</title>{circle}</g>")
        if group.middle:
            line = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in group.middle)
            body.append(f'<polyline class="middle" points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if group.label:
            named.append((54.0 + 15 * len(named), shorten(group.label), colour))
    body += _level(level, x, y) + direct_labels(named, x.end + 8, y)
    shown = sum(len(group.points) for group in groups)
    return svg_element(title, f"{y_label} over {x_label}: {shown} points.", width, height, body)


def _level(level: Level | None, x: Scale, y: Scale) -> list[str]:
    """The line to compare with, and its name above it, or below where there is no room."""
    if level is None:
        return []
    at, ink = y(level[1]), "var(--muted, #5d656d)"
    tip = escape(printable(f"{level[0]}: {short_number(level[1])}"))
    path = f'<path d="M{x.start:.1f} {at:.1f}H{x.end:.1f}" stroke="{ink}" stroke-dasharray="6 4"/>'
    below = at - 6 - FONT < y.end
    name = f'<text x="{x.start + 6:.1f}" y="{at + (15 if below else -6):.1f}" class="halo" fill="{ink}">{tip}</text>'
    return [f'<g class="level">{path}{name}</g>']


def _scales(
    xs: Sequence[float],
    ys: Sequence[float],
    labels: Sequence[str],
    log_x: bool,
    names: Sequence[str],
    width: int,
    height: int,
    labelled: bool = False,
) -> tuple[Scale, Scale]:
    right = 26 + max((text_width(label) + 10 for label in labels if label), default=0)
    y = make_scale(ys, height - 44, 54, spacing=42)
    left = 14 + max((text_width(text) for _, text in y.ticks), default=0)
    spacing = max(80.0, (width - right - left) / MOST_TICKS)
    x = make_scale(xs, left, width - right, log=log_x, round_out=False, spacing=spacing)
    if not names and len(at := sorted({x for x in xs if math.isfinite(x)})) <= MOST_TICKS and labelled:
        x = replace(x, ticks=label_ticks(at))
    if names:
        ticks = tuple((float(index), shorten(name, 16)) for index, name in enumerate(names))
        low, high = -0.3, len(names) - 0.7
        x = Scale(low, high, x.start, x.end, False, ticks)
    return x, y


def _heights(lines: Sequence[Line]) -> list[float]:
    """What the y axis has to hold: all means, and intervals as far as three times the spread of the means."""
    means = [p.y for line in lines for p in line.places if math.isfinite(p.y)]
    ends = [end for line in lines for p in line.places for end in (p.low, p.high) if math.isfinite(end)]
    if not means:
        return []
    spread = max(means) - min(means)
    if spread <= 0:
        return means + ends
    return means + [min(max(end, min(means) - 3 * spread), max(means) + 3 * spread) for end in ends]


def _bands(places: Sequence[Place], colour: str, x: Scale, y: Scale) -> list[str]:
    """A filled band over neighbouring intervals, and a thin upright over each."""

    def at(value: float) -> float:
        return y(min(max(value, y.low), y.high))

    parts, piece = [], list[Place]()
    for place in [*places, Place(math.nan, math.nan)]:
        if math.isfinite(place.low) and math.isfinite(place.high):
            piece.append(place)
            continue
        if len(piece) > 1:
            upper = " ".join(f"{x(p.x):.1f},{at(p.high):.1f}" for p in piece)
            lower = " ".join(f"{x(p.x):.1f},{at(p.low):.1f}" for p in reversed(piece))
            parts.append(f'<polygon class="band" points="{upper} {lower}" fill="{colour}" fill-opacity="0.14"/>')
        parts += [
            f'<path d="M{x(p.x):.1f} {at(p.low):.1f}V{at(p.high):.1f}" stroke="{colour}" stroke-opacity="0.6"/>'
            for p in piece
        ]
        piece = []
    return parts


def _in_numbers(place: Place) -> str:
    if not math.isfinite(place.low):
        return short_number(place.y)
    return f"{short_number(place.y)} (95 % {short_number(place.low)} to {short_number(place.high)})"
