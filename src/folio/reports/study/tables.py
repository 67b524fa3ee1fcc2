"""The tables of a study: every cell, means over seeds, comparisons; as rows, CSV and markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from folio.evaluation.estimates import Estimate
from folio.reports.page import Cell
from folio.reports.quantities import duration
from folio.reports.scales import short_number
from folio.reports.tables import Table
from folio.studies.findings.places import place_words
from folio.studies.findings.results import OF_RUN, CellResult, Results, words_of
from folio.studies.findings.statistics import Comparison, Group, ranked
from folio.studies.grid.axes import value_text

WHOLE = ("steps", "tokens", "parameters", "trained_parameters")


def cell_table(results: Results) -> Table:
    """A row for each cell with unrounded numbers, in the study's order; header are names as programs want them."""
    numbers = [*OF_RUN, "standard_error_nats", *results.measures]
    others = dict.fromkeys(key for cell in results.cells for key in cell.numbers if key not in numbers)
    numbers += list(others)
    header = ["cell", *results.axes, "seed", "status", *numbers, "error"]
    return header, [
        [
            cell.name,
            *(plain(cell.values.get(axis)) for axis in results.axes),
            cell.seed,
            cell.status,
            *(_number(cell, key) for key in numbers),
            cell.error,
        ]
        for cell in results.cells
    ]


def mean_table(results: Results, groups: Sequence[Group]) -> Table:
    """A row for each combination, the best first, with the mean over its seeds and 95 % interval of each measure."""
    header = [words_of(axis) for axis in results.axes] + ["seeds"]
    for measure in results.measures:
        header += [words_of(measure), "95 % interval"]
    header += ["parameters", "training FLOPs", "seconds", ""]
    rows: list[list[Cell]] = []
    for group in ranked(groups, results.measure, results.lower_is_better(results.measure)):
        row: list[Cell] = [plain(group.values[axis]) for axis in results.axes]
        row.append(len(group.cells))
        for measure in results.measures:
            estimate = group.estimate(measure)
            row += [None if estimate is None else estimate.value, interval_text(estimate)]
        sizes = [mean_of(group, key) for key in ("parameters", "training_flops", "seconds")]
        row += [
            None if sizes[0] is None else round(sizes[0]),
            None if sizes[1] is None else short_number(sizes[1]),
            sizes[2],
            _lost(group),
        ]
        rows.append(row)
    return header, rows


def comparison_table(comparisons: Sequence[Comparison], measure: str) -> Table:
    """A row for each two values of an axis."""
    header = ["axis", "from", "to", f"difference, {words_of(measure)}", "95 % interval", "better in", "p (Holm)", "is"]
    header += ["source"]
    return header, [
        [
            words_of(one.axis),
            value_text(one.first),
            value_text(one.second),
            one.estimate.value,
            interval_text(one.estimate),
            f"{one.wins} of {one.pairs}",
            p_text(one.adjusted),
            one.verdict,
            f"{one.source}, n = {one.estimate.n}",
        ]
        for one in comparisons
    ]


def short_table(results: Results, groups: Sequence[Group]) -> Table:
    """The same for a terminal: a mean for each measure, and the interval of the first alone."""
    header = [words_of(axis) for axis in results.axes] + ["seeds", *map(words_of, results.measures), "95 %", ""]
    rows: list[list[Cell]] = []
    for group in ranked(groups, results.measure, results.lower_is_better(results.measure)):
        found = [group.estimate(measure) for measure in results.measures]
        means: list[Cell] = [None if one is None else one.value for one in found]
        places = [plain(group.values[axis]) for axis in results.axes]
        rows.append([*places, len(group.cells), *means, interval_text(found[0] if found else None), _lost(group)])
    return header, rows


def short_comparisons(comparisons: Sequence[Comparison], measure: str) -> Table:
    """The same for a terminal: a line each."""
    header = ["axis", words_of(measure), "95 %", "better in", "p (Holm)", ""]
    return header, [
        [
            f"{words_of(one.axis)} {value_text(one.first)} → {value_text(one.second)}",
            one.estimate.value,
            interval_text(one.estimate),
            f"{one.wins} of {one.pairs}",
            p_text(one.adjusted),
            one.verdict,
        ]
        for one in comparisons
    ]


def interval_text(estimate: Estimate | None) -> str:
    """``2.41 to 2.52``; nothing where one unit alone cannot tell."""
    if estimate is None or not math.isfinite(estimate.low):
        return ""
    return f"{short_number(estimate.low)} to {short_number(estimate.high)}"


def p_text(p: float) -> str:
    return "" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def words_of_group(group: Group, axes: Sequence[str]) -> str:
    """Where a combination stands on ``axes``, in words."""
    return place_words(group.values, axes)


def plain(value: object) -> Cell:
    """A value in a table. Nothing where a grid does not have the axis."""
    if value is None:
        return ""
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else value_text(value)


def _number(cell: CellResult, key: str) -> Cell:
    value = cell.score(key)
    if not math.isfinite(value):
        return None
    return int(value) if key in WHOLE else value


def mean_of(group: Group, key: str) -> float | None:
    """The mean of a number over the seeds that have it."""
    values = [value for cell in group.cells.values() if math.isfinite(value := cell.score(key))]
    return sum(values) / len(values) if values else None


def _lost(group: Group) -> str:
    parts = [f"{group.diverged} diverged"] * bool(group.diverged) + [f"{group.missing} missing"] * bool(group.missing)
    return ", ".join(parts)


def spent(results: Results) -> str:
    """The time that all finished cells took together."""
    runs = {cell.name: cell.score("seconds") for cell in results.cells}
    return duration(sum(value for value in runs.values() if math.isfinite(value)))
