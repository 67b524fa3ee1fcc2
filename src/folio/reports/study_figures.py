"""The figures of a study: score against each axis, loss curves, score against what it cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from folio.reports.charts import HALF, WIDE, Series, line_chart
from folio.reports.intervals import Interval, interval_chart
from folio.reports.study_charts import Dots, Line, Place, band_chart, dot_chart
from folio.reports.study_tables import p_text, words_of_group
from folio.studies.axes import value_text
from folio.studies.results import Results, words_of
from folio.studies.statistics import Comparison, Group, ranked, tuned_groups

MOST_LINES, MOST_PANELS, MOST_CURVES = 8, 9, 24
RATIO_FOR_LOG = 4
COSTS = (("seconds", "seconds"), ("training_flops", "training FLOPs"), ("parameters", "parameters"))


def figures_of(results: Results, groups: Sequence[Group]) -> dict[str, str]:
    """Every figure by the name of its file, SVG each; those that would show nothing are left out."""
    figures: dict[str, str] = {}
    measure = results.measure
    for axis in _numeric_first(results):
        for number, panel in enumerate(axis_panels(results, groups, axis, measure), 1):
            figures[f"{measure}-by-{axis}-{number}".replace(".", "-")] = panel
    if any(len(cell.curve) > 1 for cell in results.cells):
        figures["curves"] = loss_curves(results, groups)
    for key, label in COSTS:
        figures[f"{measure}-by-{key}".replace(".", "-")] = cost_figure(results, groups, key, label)
    return figures


def axis_panels(results: Results, groups: Sequence[Group], axis: str, measure: str) -> list[str]:
    """Score against ``axis``: a line for each value of another one, a panel for each combination of the rest.

    Tuned axes are not shown but on their own: elsewhere each place has the best of them. Where there would be too many
    panels, all combinations of the rest are averaged in one.
    """
    tuned = [name for name in results.study.tuned if name != axis]
    lower = results.lower_is_better(measure)
    shown = tuned_groups(groups, tuned, measure, lower)
    values = _distinct(group.values[axis] for group in shown if group.values[axis] is not None)
    if len(values) < 2:
        return []
    others = [name for name in results.axes if name not in (axis, *tuned)]
    lines = _line_axis(results, shown, others)
    rest = [name for name in others if name != lines]
    panels: dict[str, list[Group]] = {}
    for group in shown:
        panels.setdefault(words_of_group(group, rest), []).append(group)
    if len(panels) > MOST_PANELS:
        panels = {f"mean over {' and '.join(map(words_of, rest))}": list(shown)}
    width = WIDE if len(panels) == 1 else HALF
    best = f", best {' and '.join(map(words_of, tuned))}" if tuned else ""
    return [
        _panel(members, axis, values, lines, measure, f"{words_of(measure)} by {words_of(axis)}", name + best, width)
        for name, members in panels.items()
    ]


def _panel(
    groups: Sequence[Group],
    axis: str,
    values: Sequence[Any],
    lines: str | None,
    measure: str,
    title: str,
    name: str,
    width: int,
) -> str:
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    places = {repr(value): float(value) if numeric else float(index) for index, value in enumerate(values)}
    labels = _distinct(group.values[lines] for group in groups) if lines else [None]
    drawn = []
    for colour, label in enumerate(labels):
        members = [group for group in groups if lines is None or repr(group.values[lines]) == repr(label)]
        found = [_place(places[key], members, axis, key, measure) for key in places]
        text = "" if lines is None else f"{words_of(lines)} {value_text(label)}"
        drawn.append(Line(text, sorted((one for one in found if one), key=lambda one: one.x), colour))
    log = numeric and min(places.values()) > 0 and max(places.values()) >= RATIO_FOR_LOG * min(places.values())
    return band_chart(
        drawn,
        title=f"{title}: {name.lstrip(', ')}" if name.strip(", ") else title,
        x_label=words_of(axis),
        y_label=words_of(measure),
        log_x=log,
        names=() if numeric else [value_text(value) for value in values],
        width=width,
    )


def _place(x: float, groups: Sequence[Group], axis: str, key: str, measure: str) -> Place | None:
    """The mean at one value; of several combinations their mean, then without a band: it is none over seeds."""
    found = [
        estimate
        for group in groups
        if repr(group.values[axis]) == key and (estimate := group.estimate(measure)) is not None
    ]
    if not found:
        return None
    if len(found) > 1:
        return Place(x, fmean(one.value for one in found))
    return Place(x, found[0].value, found[0].low, found[0].high)


def _line_axis(results: Results, groups: Sequence[Group], others: Sequence[str]) -> str | None:
    """The axis whose values are the lines of a panel: one of words if there is one, else that with the fewest."""
    counts = {name: len(_distinct(group.values[name] for group in groups)) for name in others}
    fitting = [name for name in others if 1 < counts[name] <= MOST_LINES]
    worded = [name for name in fitting if any(isinstance(group.values[name], str) for group in groups)]
    return min(worded or fitting, key=lambda name: counts[name], default=None)


def loss_curves(results: Results, groups: Sequence[Group]) -> str:
    """Validation loss by step: the mean over seeds of the best combinations, and of others faintly."""
    order = ranked(groups, results.measure, results.lower_is_better(results.measure))
    curves = []
    for place, group in enumerate(order[:MOST_CURVES]):
        by_step: dict[float, list[float]] = {}
        for cell in group.cells.values():
            for step, nats in cell.curve:
                by_step.setdefault(step, []).append(nats)
        whole = {step: nats for step, nats in by_step.items() if len(nats) == len(group.cells)}
        label, steps = words_of_group(group, results.axes), sorted(whole)
        means = [fmean(whole[step]) for step in steps]
        faint = place >= MOST_LINES
        curves.append(Series(label, steps, means, faint=faint, dots=not faint, colour=place % MOST_LINES))
    title = "Validation loss while training, mean over seeds"
    return line_chart(curves, title=title, x_label="step", y_label="nats per token")


def cost_figure(results: Results, groups: Sequence[Group], key: str, label: str) -> str:
    """Every finished cell by its score and by what it cost."""
    lines = _line_axis(results, groups, [name for name in results.axes if name not in results.study.tuned])
    values = _distinct(cell.values.get(lines) for cell in results.finished) if lines else [None]
    dots = [
        Dots(
            "" if lines is None else f"{words_of(lines)} {value_text(value)}",
            [
                (cell.score(key), cell.score(results.measure), cell.name)
                for cell in results.finished
                if lines is None or repr(cell.values.get(lines)) == repr(value)
            ],
            colour,
        )
        for colour, value in enumerate(values)
    ]
    title = f"{words_of(results.measure)} by {label}"
    xs = [x for one in dots for x, _, _ in one.points if math.isfinite(x) and x > 0]
    far = bool(xs) and max(xs) > RATIO_FOR_LOG * min(xs)
    return dot_chart(dots, title=title, x_label=label, y_label=words_of(results.measure), log_x=far)


def comparison_figure(comparisons: Sequence[Comparison], measure: str) -> str:
    """Each difference with its interval, and zero."""
    colours = {"better": 2, "worse": 1, "cannot tell": 7}
    rows = [
        Interval(
            f"{words_of(one.axis)}: {value_text(one.first)} → {value_text(one.second)}",
            one.estimate.value,
            one.estimate.low,
            one.estimate.high,
            one.verdict + (f", p {p_text(one.adjusted)}" if math.isfinite(one.adjusted) else ""),
            colours[one.verdict],
        )
        for one in comparisons
    ]
    return interval_chart(rows, title="Differences", x_label=f"difference in {words_of(measure)}", reference=0.0)


def _numeric_first(results: Results) -> list[str]:
    def words(axis: str) -> bool:
        return any(isinstance(cell.values.get(axis), str) for cell in results.cells)

    return sorted(results.axes, key=words)


def _distinct(values: Any) -> list[Any]:
    return list({repr(value): value for value in values}.values())
