"""The panels of a figure that a study asks for, all drawn on one range so that they can be held against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import TypeVar

from folio.evaluation.estimates import mean
from folio.reports.charts import HALF, WIDE
from folio.reports.study.axes import MOST_LINES, distinct, is_far, is_numeric, place_of
from folio.reports.study.charts import Dots, Line, Place, band_chart, dot_chart
from folio.reports.study.own_frame import Frame
from folio.studies.findings.places import place_words
from folio.studies.findings.results import words_of
from folio.studies.findings.statistics import Group
from folio.studies.grid.axes import SEED, value_text

BASELINES = 2
"""So many lines of cells that have no panel stand in every one, to compare with; more of them get a panel."""
BASELINE_COLOUR = 7
LETTER = 8.2
"""Pixels of a character in a title, about."""


def mean_panels(frame: Frame) -> list[str]:
    """Means over seeds with bands; a line for each value of one axis, a panel for each of another."""
    figure, values = frame.figure, distinct(spot.x for spot in frame.spots)
    numeric, at = is_numeric(values), place_of(values)
    found: dict[str | None, dict[str, list[Place]]] = {}
    for spot in frame.spots:
        if (place := mean_place(spot.groups, figure.measure, at[repr(spot.x)])) is not None:
            found.setdefault(spot.panel, {}).setdefault(spot.line, []).append(place)
    order = distinct(spot.line for spot in frame.spots if spot.panel is not None)
    named = _named(order)
    panels = {
        panel: [
            Line(
                line,
                sorted(places, key=lambda place: place.x),
                _colour(order, line),
                line in order and line not in named,
            )
            for line, places in lines.items()
        ]
        for panel, lines in found.items()
    }
    drawn = _with_baselines(panels, frame)
    width = WIDE if len(drawn) == 1 else HALF
    places = [place for lines in drawn.values() for line in lines for place in line.places]
    return [
        band_chart(
            lines,
            title=_title(figure.title, panel, width),
            x_label=words_of(figure.x),
            y_label=words_of(figure.measure),
            log_x=numeric and is_far([place.x for place in places]),
            names=() if numeric else [value_text(value) for value in values],
            beside=[line for others in drawn.values() for line in others],
            level=frame.level,
            width=width,
        )
        for panel, lines in drawn.items()
    ]


def mean_place(groups: Sequence[Group], measure: str, x: float) -> Place | None:
    """The mean over seeds; of several combinations, that of each seed's mean over them.

    None until each of these has been measured: a mean of some, beside one of all, would compare different things.
    """
    scores = [
        {seed: value for seed, cell in group.cells.items() if math.isfinite(value := cell.score(measure))}
        for group in groups
    ]
    if not all(scores):
        return None
    seeds = [seed for seed in scores[0] if all(seed in one for one in scores)]
    if not seeds:
        return Place(x, fmean(fmean(one.values()) for one in scores))
    estimate = mean([fmean(one[seed] for one in scores) for seed in seeds])
    return Place(x, estimate.value, estimate.low, estimate.high)


def dot_panels(frame: Frame) -> list[str]:
    """A dot for each finished cell, coloured by the values of one axis, and a line through the medians of a place."""
    figure, axes = frame.figure, frame.results.axes
    cells = [cell for cell in frame.results.finished if math.isfinite(cell.score(figure.measure))]
    values = distinct(cell.values.get(figure.x) for cell in cells if cell.values.get(figure.x) is not None)
    numeric, at = not frame.by_axis or is_numeric(values), place_of(values)
    found: dict[str | None, dict[str, list[tuple[float, float, str]]]] = {}
    for cell in cells:
        x = at.get(repr(cell.values.get(figure.x)), math.nan) if frame.by_axis else cell.score(figure.x)
        if math.isfinite(x):
            words = f"{place_words(cell.values, axes)}, {SEED} {cell.seed}".lstrip(", ")
            lines = found.setdefault(frame.panel_of(cell.values), {})
            lines.setdefault(frame.line_of(cell.values), []).append((x, cell.score(figure.measure), words))
    order = distinct(line for panel, lines in found.items() if panel is not None for line in lines)
    named = _named(order)
    panels = {
        panel: [
            Dots("" if line in order and line not in named else line, points, _colour(order, line), _medians(points))
            for line, points in lines.items()
        ]
        for panel, lines in found.items()
    }
    drawn = _with_baselines(panels, frame)
    width = WIDE if len(drawn) == 1 else HALF
    xs = [x for groups in drawn.values() for group in groups for x, _, _ in group.points]
    return [
        dot_chart(
            groups,
            title=_title(figure.title, panel, width),
            x_label=words_of(figure.x),
            y_label=words_of(figure.measure),
            log_x=numeric and is_far(xs),
            names=() if numeric else [value_text(value) for value in values],
            beside=[group for others in drawn.values() for group in others],
            level=frame.level,
            width=width,
        )
        for panel, groups in drawn.items()
    ]


def _medians(points: Sequence[tuple[float, float, str]]) -> list[tuple[float, float]]:
    """The median at each x, where dots share places rather than being each somewhere else."""
    by_x: dict[float, list[float]] = {}
    for x, y, _ in points:
        by_x.setdefault(x, []).append(y)
    shared = len(by_x) > 1 and len(points) >= 2 * len(by_x)
    return [(x, median(by_x[x])) for x in sorted(by_x)] if shared else []


def _named(order: Sequence[str]) -> list[str]:
    """Which lines have names and bands: all, or of too many some at equal distances."""
    if len(order) <= MOST_LINES:
        return list(order)
    return [order[round(place * (len(order) - 1) / (MOST_LINES - 1))] for place in range(MOST_LINES)]


def _colour(order: Sequence[str], line: str) -> int:
    return order.index(line) if line in order else BASELINE_COLOUR


def _title(title: str, panel: str, width: int) -> str:
    """The figure's and the panel's, where there is room for both; the figure's stands in the caption, too."""
    if not panel:
        return title
    both = f"{title}: {panel}"
    return both if len(both) * LETTER <= width else panel


Drawn = TypeVar("Drawn", Line, Dots)


def _with_baselines(panels: Mapping[str | None, list[Drawn]], frame: Frame) -> dict[str, list[Drawn]]:
    """The panels, and in each what has none of its own, if that is little; else, or if it is all, in one of its own."""
    drawn = {panel: list(lines) for panel, lines in panels.items() if panel is not None}
    baselines = list(panels.get(None, ()))
    if drawn and len(baselines) <= BASELINES:
        return {panel: lines + baselines for panel, lines in drawn.items()}
    if baselines:
        own = [replace(line, colour=colour) for colour, line in enumerate(baselines)]
        drawn[f"without {words_of(str(frame.figure.panels))}"] = own
    return drawn
