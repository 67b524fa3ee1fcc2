"""How lengths are distributed: a histogram of one text, two drawn over each other, a bar each where there are few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from folio.corpus.statistics import SAMPLE, Lengths
from folio.reports.charts import HALF, Series, bar_chart, histogram, line_chart

QUANTILES = (0.5, 0.95, 0.99)
BINS = 36


class Side(NamedTuple):
    """One text's lengths."""

    name: str
    lengths: Lengths
    colour: int = 0


def length_chart(
    sides: Sequence[Side],
    *,
    title: str,
    unit: str,
    of: str,
    width: int = HALF,
    quantiles: Sequence[float] = QUANTILES,
    marks: Sequence[tuple[str, float]] = (),
    most: int = SAMPLE,
) -> str:
    """The distribution of ``of`` (documents, lines) over their lengths in ``unit``; logarithmic where it reaches far.

    Of two texts, the share of each in each range, so that texts of any size compare. Of one, ``quantiles`` and other
    ``marks`` are lines, and it is drawn from ``most`` of the lengths.
    """
    known = [side for side in sides if side.lengths.counts]
    log = any(_reaches_far(side.lengths) for side in known)
    if len(sides) > 1:
        return _overlaid(sides, title=title, unit=unit, of=of, log=log, width=width)
    if not known:
        return histogram([], title=title, x_label=unit, width=width)
    lengths = known[0].lengths
    values = lengths.sample(most)
    total = lengths.counts.total()
    label = of if len(values) == total else f"of {len(values):,} {of}, evenly drawn from {total:,}"
    drawn = values if log else values[: -(-len(values) * 999 // 1000)]
    bins = max(1, min(BINS, drawn[-1] - drawn[0] + 1))
    return histogram(
        drawn,
        title=title,
        x_label=unit,
        y_label=label,
        bins=bins,
        log_x=log,
        quantiles=quantiles,
        marks=marks,
        colour=known[0].colour,
        width=width,
    )


def document_bars(listed: Sequence[dict[str, Any]], *, title: str, key: str, width: int = HALF, colour: int = 0) -> str:
    """A bar for each of a few documents, in their order."""
    bars: dict[str, float] = {}
    for number, entry in enumerate(listed, 1):
        name = entry["id"].rpartition("/")[2]
        bars[name if name not in bars else f"{name} ({number})"] = entry[key] or 0
    return bar_chart(bars, title=title, value_label=key, width=width, colour=colour)


def _overlaid(sides: Sequence[Side], *, title: str, unit: str, of: str, log: bool, width: int) -> str:
    ends = [length for side in sides for length in (min(side.lengths.counts, default=1), _far_end(side.lengths, log))]
    low, high = max(1 if log else 0, min(ends)), max(2, *ends)
    edges = _edges(low, high, log)
    series = []
    for colour, side in enumerate(sides):
        xs, ys = _steps(side.lengths, edges)
        series.append(Series(side.name, xs, ys, colour=colour))
    return line_chart(series, title=title, x_label=unit, y_label=f"% of {of}", log_x=log, width=width, height=280)


def _edges(low: float, high: float, log: bool) -> list[float]:
    """The ends of the ranges; whole numbers, since lengths are."""
    steps = (index / BINS for index in range(BINS + 1))
    if log:
        return sorted({float(round(low * (high / low) ** step)) for step in steps})
    width = max(1, math.ceil((high - low) / BINS))
    return [float(edge) for edge in range(int(low), int(high) + width + 1, width)]


def _steps(lengths: Lengths, edges: Sequence[float]) -> tuple[list[float], list[float]]:
    """The outline of a histogram: the share, in %, of lengths from one edge up to the next, as a line with steps."""
    total = max(1, lengths.counts.total())
    counts = [0] * (len(edges) - 1)
    for length, times in lengths.counts.items():
        place = _place(edges, length)
        if 0 <= place < len(counts):
            counts[place] += times
    xs, ys = [edges[0]], [0.0]
    for left, right, count in zip(edges, edges[1:], counts, strict=False):
        xs += [left, right]
        ys += [100 * count / total] * 2
    return [*xs, edges[-1]], [*ys, 0.0]


def _place(edges: Sequence[float], length: float) -> int:
    from bisect import bisect_right

    place = bisect_right(edges, length) - 1
    return place - 1 if place == len(edges) - 1 and length == edges[-1] else place


def _reaches_far(lengths: Lengths) -> bool:
    low, middle, high = lengths.at((0.05, 0.5, 0.999))
    return low > 0 and high > 20 * max(1.0, low) and high > 6 * max(1.0, middle)


def _far_end(lengths: Lengths, log: bool) -> float:
    if not lengths.counts:
        return 1
    return max(lengths.counts) if log else lengths.at((0.999,))[0]
