"""Charts of a study: means with bands over an axis, and points in the plane of two numbers, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from folio.reports.drawing import (
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
    """Means that belong together, from left to right."""

    label: str
    places: Sequence[Place]
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Dots:
    """Points of one colour, each with words that show under the pointer."""

    label: str
    points: Sequence[tuple[float, float, str]]
    colour: int = 0


def band_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    names: Sequence[str] = (),
    width: int = HALF,
    height: int = 320,
) -> str:
    """A line for each, a band over its intervals, a dot with its numbers at each mean.

    ``names`` stand under 0, 1, 2, ... where the axis has words for values. A band that is many times as high as all
    means are apart is cut off at the frame, or the lines could not be told apart.
    """
    ends = _heights(lines)
    labels = [shorten(line.label) for line in lines]
    x, y = _scales([p.x for line in lines for p in line.places], ends, labels, log_x, names, width, height, True)
    body, finals = axes(x, y, x_label, y_label), []
    for line, label in zip(lines, labels, strict=True):
        colour, places = paint(line.colour), [p for p in line.places if math.isfinite(p.y)]
        body += _bands(places, colour, x, y)
        dots = " ".join(f"{x(p.x):.1f},{y(p.y):.1f}" for p in places)
        body.append(f'<polyline points="{dots}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for p in places:
            at = names[int(p.x)] if names else short_number(p.x)
            tip = escape(printable(f"{line.label}, {x_label} {at}: {_in_numbers(p)}"))
            circle = f'<circle cx="{x(p.x):.1f}" cy="{y(p.y):.1f}" r="4" fill="{colour}"/>'
            body.append(f"<g><title>{tip}</title>{circle}</g>")
        if places and label:
            finals.append((y(places[-1].y), label, colour))
    body += direct_labels(finals, x.end + 8, y)
    described = "; ".join(f"{line.label}: {', '.join(map(_in_numbers, line.places))}" for line in lines)
    return svg_element(title, f"{y_label} over {x_label}. {described}", width, height, body)


def dot_chart(
    groups: Sequence[Dots],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = True,
    width: int = HALF,
    height: int = 300,
) -> str:
    """A dot for each point, coloured by group, with the groups named at the right."""
    points = [point for group in groups for point in group.points]
    labels = [shorten(group.label) for group in groups]
    x, y = _scales([p[0] for p in points], [p[1] for p in points], labels, log_x, (), width, height)
    body = axes(x, y, x_label, y_label)
    for group in groups:
        for px, py, words in group.points:
            if math.isfinite(px) and math.isfinite(py) and (px > 0 or not log_x):
                tip = escape(printable(f"{words}: {short_number(py)} at {short_number(px)}"))
                circle = (
                    f'<circle cx="{x(px):.1f}" cy="{y(py):.1f}" r="4" fill="{paint(group.colour)}" fill-opacity="0.7"/>'
                )
                body.append(f"<g><title>{tip}</title>{circle}</g>")
    named = [(54.0 + 15 * n, label, paint(groups[n].colour)) for n, label in enumerate(labels) if label]
    body += direct_labels(named, x.end + 8, y)
    return svg_element(title, f"{y_label} over {x_label}: {len(points)} points.", width, height, body)


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
    x = make_scale(xs, left, width - right, log=log_x, round_out=False, spacing=80)
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
