"""The figures of a study: score against each axis, loss curves, score against what it cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from folio.reports.charts import HALF, WIDE, Series, line_chart
from folio.reports.intervals import Interval, interval_chart
from folio.reports.study.axes import MOST_LINES, distinct, is_far, is_numeric, line_axis, place_of
from folio.reports.study.charts import Dots, Line, Place, band_chart, dot_chart
from folio.reports.study.tables import p_text, words_of_group
from folio.studies.findings.places import value_words
from folio.studies.findings.results import CellResult, Results, words_of
from folio.studies.findings.statistics import Comparison, Group, ranked, tuned_groups
from folio.studies.grid.axes import GRID, value_text

MOST_PANELS, MOST_CURVES = 9, 24
PER_TOKEN = ("nats_per_token", "perplexity", "plateau_nats_per_token")
LONGEST_LABEL = 28
"""Longer ones would be cut beside a curve; values alone are told there instead."""
COSTS = (("seconds", "seconds"), ("training_flops", "training FLOPs"), ("parameters", "parameters"))


def figures_of(results: Results, groups: Sequence[Group]) -> dict[str, str]:
    """Every figure by the name of its file, SVG each; those that would show nothing are left out."""
    figures: dict[str, str] = {}
    measure = results.measure
    for axis in _numeric_first(results):
        for number, panel in enumerate(axis_panels(results, groups, axis, measure), 1):
            figures[f"{measure}-by-{axis}-{number}".replace(".", "-")] = panel
    if any(len(cell.curve_of(curve_measure(results))) > 1 for cell in results.cells):
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
    shown = [group for group in tuned_groups(groups, tuned, measure, lower) if group.values[axis] is not None]
    values = distinct(group.values[axis] for group in shown)
    others = [name for name in results.axes if name not in (axis, *tuned)]
    lines = line_axis(shown, others)
    rest = [name for name in others if name != lines]
    panels: dict[str, list[Group]] = {}
    for group in shown:
        panels.setdefault(words_of_group(group, rest), []).append(group)
    if len(panels) > MOST_PANELS:
        panels = {f"mean over {' and '.join(map(words_of, rest))}": list(shown)}
    panels = {name: members for name, members in panels.items() if _goes_along(members, axis, lines)}
    drawn = {name: _lines(members, axis, values, lines, measure, shown) for name, members in panels.items()}
    best = f", best {' and '.join(map(words_of, tuned))}" if tuned else ""
    numeric = is_numeric(values)
    return [
        band_chart(
            drawn[name],
            title=_titled(f"{words_of(measure)} by {words_of(axis)}", name + best),
            x_label=words_of(axis),
            y_label=words_of(measure),
            log_x=numeric and is_far(values),
            names=() if numeric else [value_text(value) for value in values],
            beside=[line for other in panels if _alike(panels[other], members, measure) for line in drawn[other]],
            width=WIDE if len(panels) == 1 else HALF,
        )
        for name, members in panels.items()
    ]


def _goes_along(groups: Sequence[Group], axis: str, lines: str | None) -> bool:
    """Whether any line of the panel has two values of ``axis``: of one alone there is nothing to be seen."""
    found: dict[str, set[str]] = {}
    for group in groups:
        found.setdefault("" if lines is None else value_words(group.values, lines), set()).add(repr(group.values[axis]))
    return any(len(values) > 1 for values in found.values())


def _alike(groups: Sequence[Group], others: Sequence[Group], measure: str) -> bool:
    """Whether two panels can have one range: not where tokens are counted, and those of two grids may differ."""
    return measure not in PER_TOKEN or repr(groups[0].values.get(GRID)) == repr(others[0].values.get(GRID))


def _titled(what: str, where: str) -> str:
    return f"{what}: {where.lstrip(', ')}" if where.strip(", ") else what


def _lines(
    groups: Sequence[Group],
    axis: str,
    values: Sequence[Any],
    lines: str | None,
    measure: str,
    shown: Sequence[Group],
) -> list[Line]:
    """The lines of one panel; a value has the same colour in all that are ``shown``."""
    places = place_of(values)
    labels = distinct("" if lines is None else value_words(group.values, lines) for group in shown)
    drawn = []
    for colour, label in enumerate(labels):
        members = [group for group in groups if lines is None or value_words(group.values, lines) == label]
        found = [_place(places[key], members, axis, key, measure) for key in places]
        if members:
            drawn.append(Line(label, sorted((one for one in found if one), key=lambda one: one.x), colour))
    return drawn


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


def loss_curves(results: Results, groups: Sequence[Group]) -> str:
    """A number of the validations by step: the mean over seeds of the best combinations, and of others faintly.

    It is what is compared above all, if validations have it, else their loss.
    """
    measure = curve_measure(results)
    order = ranked(groups, results.measure, results.lower_is_better(results.measure))[:MOST_CURVES]
    labels = [words_of_group(group, results.axes) for group in order]
    order_told = ""
    if any(len(label) > LONGEST_LABEL for label in labels):
        axes = [axis for axis in results.axes if axis != GRID]
        labels = [_short_place(group, axes) for group in order]
        order_told = f" ({', '.join(map(words_of, axes))})"
    curves = []
    for place, (group, label) in enumerate(zip(order, labels, strict=True)):
        by_step: dict[float, list[float]] = {}
        for cell in group.cells.values():
            for step, value in cell.curve_of(measure):
                by_step.setdefault(step, []).append(value)
        whole = {step: values for step, values in by_step.items() if len(values) == len(group.cells)}
        steps = sorted(whole)
        means = [fmean(whole[step]) for step in steps]
        faint = place >= MOST_LINES
        curves.append(Series(label, steps, means, faint=faint, dots=not faint, colour=place % MOST_LINES))
    label = "nats per token" if measure == "nats_per_token" else words_of(measure)
    title = f"Validation {'loss' if measure == 'nats_per_token' else label} while training, mean over seeds{order_told}"
    return line_chart(curves, title=title, x_label="step", y_label=label)


def curve_measure(results: Results) -> str:
    """The first measure of which there are curves; the loss if there is none."""
    return next((m for m in results.measures if any(cell.curve_of(m) for cell in results.cells)), "nats_per_token")


def _short_place(group: Group, axes: Sequence[str]) -> str:
    """Values alone; the grid's name in place of those that it does not have."""
    values = [value_text(group.values[axis]) for axis in axes if group.values[axis] is not None]
    return " · ".join([value_text(group.values[GRID]), *values] if len(values) < len(axes) else values)


def cost_figure(results: Results, groups: Sequence[Group], key: str, label: str) -> str:
    """Every finished cell by its score and by what it cost."""
    lines = line_axis(groups, [name for name in results.axes if name not in results.study.tuned])
    named: dict[str, list[CellResult]] = {}
    for cell in results.finished:
        named.setdefault("" if lines is None else value_words(cell.values, lines), []).append(cell)
    dots = [
        Dots(name, [(cell.score(key), cell.score(results.measure), cell.name) for cell in cells], colour)
        for colour, (name, cells) in enumerate(named.items())
    ]
    title = f"{words_of(results.measure)} by {label}"
    far = is_far([x for one in dots for x, _, _ in one.points])
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
