"""The report of a study: tables, figures, and one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from folio.artifacts import write_file
from folio.reports.charts import standalone
from folio.reports.page import Page, Stat
from folio.reports.scales import short_number
from folio.reports.study_figures import comparison_figure, figures_of
from folio.reports.study_tables import (
    as_csv,
    as_markdown,
    cell_table,
    comparison_table,
    interval_text,
    mean_table,
    spent,
    words_of_group,
)
from folio.studies.records import StudyFolder
from folio.studies.results import Results, read_results, words_of
from folio.studies.statistics import Comparison, Group, comparisons_of, groups_of, pooled_spread, ranked

REPORT = "report.html"
LOST = ("failed", "diverged")
MOST_COMPARED = 60
"""Rows of the comparison's figure; the table has all."""


def study_report(folder: StudyFolder, to: Path | None = None) -> tuple[Results, list[Group], list[Path]]:
    """Write ``report.html`` (or ``to``), ``cells`` and ``means`` as .csv and .md, ``comparisons.csv`` and ``figures/``.

    What was found, and the paths. :class:`ArtifactError` for a folder that is damaged or no study.
    """
    results = read_results(folder)
    groups = groups_of(results)
    comparisons = comparisons_of(results, groups, results.measure)
    figures = figures_of(results, groups)
    tables = {"cells": cell_table(results), "means": mean_table(results, groups)}
    tables["comparisons"] = comparison_table(comparisons, results.measure)
    for name, table in tables.items():
        write_file(folder.path / f"{name}.csv", as_csv(table))
        write_file(folder.path / f"{name}.md", as_markdown(table))
    for old in (folder.path / "figures").glob("*.svg"):
        if old.stem not in figures:
            old.unlink()
    for name, svg in figures.items():
        write_file(folder.path / "figures" / f"{name}.svg", standalone(svg))
    page = _page(results, groups, comparisons, figures)
    written = [page.write(to or folder.path / REPORT), *(folder.path / f"{name}.csv" for name in tables)]
    return results, groups, written


def _page(
    results: Results,
    groups: Sequence[Group],
    comparisons: Sequence[Comparison],
    figures: dict[str, str],
) -> Page:
    study = results.study
    scale = "" if study.scale == "whole" else f" · scale {study.scale}"
    page = Page(
        study.title or study.name, f"{len(results.cells)} cells over {_axes_words(results)}{scale}", kind="study"
    )
    page.headline(_headline(results, groups))
    for line in results.missing:
        page.note(line[:1].upper() + line[1:] + ".")
    _tell_what_is_missing(page, results)
    if study.question:
        page.section("Question", study.question)
    _best(page, results, groups)
    _compared(page, results, comparisons)
    of_axes = [svg for name, svg in figures.items() if name != "curves" and not _is_cost(name)]
    if of_axes:
        page.section("Against each axis")
        page.figures(*of_axes, caption="Means over seeds; bands are 95 % intervals, Student's t over seeds.")
    if "curves" in figures:
        page.section("Loss curves")
        page.figures(figures["curves"], caption="The best combinations have dots and names; others are faint.")
    page.section("Against what it cost")
    page.figures(
        *(svg for name, svg in figures.items() if _is_cost(name)), caption="A dot is a cell, that is one seed."
    )
    if lost := [cell for cell in results.cells if cell.status in LOST]:
        page.section("Lost cells")
        rows = [(cell.name, cell.status, cell.error, f"logs/{cell.name}.log") for cell in lost]
        page.table(("cell", "", "why", "log"), rows)
    page.section("Means over seeds", "The best first.")
    page.table(*mean_table(results, groups))
    page.section("Every cell", "The same with all digits is in cells.csv.")
    page.table(*cell_table(results))
    page.section("The study")
    page.details("as it was run", study.model_dump(mode="json", exclude_defaults=True))
    return page


def _is_cost(name: str) -> bool:
    return name.endswith(("-by-seconds", "-by-training_flops", "-by-parameters"))


def _axes_words(results: Results) -> str:
    seeds = len({cell.seed for cell in results.cells})
    parts = [words_of(axis) for axis in results.axes] + ([f"{seeds} seeds"] if seeds > 1 else ["one seed"])
    return ", ".join(parts)


def _headline(results: Results, groups: Sequence[Group]) -> list[Stat]:
    stats = []
    best = best_group(results, groups)
    if best is not None and (estimate := best.estimate(results.measure)) is not None:
        interval = interval_text(estimate)
        counted = f"95 % {interval}, {estimate.n} seeds" if interval else f"n = {estimate.n}"
        note = f"{counted}; {words_of_group(best, results.axes)}"
        stats.append(Stat("Best mean", short_number(estimate.value), words_of(results.measure), note))
    statuses = [cell.status for cell in results.cells]
    other = ", ".join(f"{statuses.count(s)} {s}" for s in dict.fromkeys(statuses) if s != "finished")
    stats.append(Stat("Cells finished", f"{statuses.count('finished')} of {len(statuses)}", note=other))
    return [*stats, Stat("Time in training", spent(results))]


def best_group(results: Results, groups: Sequence[Group]) -> Group | None:
    """The combination with the best mean; None if none is finished."""
    order = ranked(groups, results.measure, results.lower_is_better(results.measure))
    return order[0] if order and order[0].estimate(results.measure) is not None else None


def _tell_what_is_missing(page: Page, results: Results) -> None:
    for status in LOST:
        if count := sum(cell.status == status for cell in results.cells):
            counted = "One cell" if count == 1 else f"{count} cells"
            page.note(f"{counted} {status}, and stand in no mean and no comparison; why is told under Lost cells.")
    if left := sum(cell.status in ("waiting", "begun", "running") for cell in results.cells):
        page.note(f"{left} of {len(results.cells)} cells are not finished yet: all that follows is of the others.")


def _best(page: Page, results: Results, groups: Sequence[Group]) -> None:
    """The best combination of each value of each axis: what the axis can reach, and where."""
    best = best_group(results, groups)
    if best is None:
        return
    lower = results.lower_is_better(results.measure)
    rows = []
    for axis in results.axes:
        for value in {repr(group.values[axis]): group.values[axis] for group in groups}.values():
            members = [group for group in groups if repr(group.values[axis]) == repr(value)]
            first = ranked(members, results.measure, lower)[0]
            estimate = first.estimate(results.measure)
            if estimate is not None:
                where = words_of_group(first, [name for name in results.axes if name != axis])
                head = words_of_group(first, [axis])
                rows.append((head, where, estimate.value, interval_text(estimate), estimate.n))
    spread, freedom = pooled_spread(groups, results.measure)
    chance = (
        f" Between seeds of one combination the standard deviation is {short_number(spread)} "
        f"(pooled, {freedom} degrees of freedom)."
        if freedom
        else " With one seed each, nothing here says how much is chance."
    )
    page.section("Best cells", f"The best of all is {words_of_group(best, results.axes)}.{chance}")
    page.table(("of", "with", words_of(results.measure), "95 % interval", "seeds"), rows)
    page.paragraph("The best of many looks better than it is: chance helped it to its place.")


def _compared(page: Page, results: Results, comparisons: Sequence[Comparison]) -> None:
    if not comparisons:
        return
    tuned = results.study.tuned
    best = f" Of {' and '.join(map(words_of, tuned))} each side has its best." if tuned else ""
    page.section(
        "Paired comparisons",
        "Each difference is between cells that are equal in the other axes and in the seed, averaged over the other "
        f"axes; below zero means a lower {words_of(results.measure)}.{best} p is two-sided and corrected for the "
        "number of comparisons (Holm).",
    )
    drawn = [one for one in comparisons if math.isfinite(one.estimate.low)][:MOST_COMPARED]
    if drawn:
        page.figures(comparison_figure(drawn, results.measure))
    (_, _, _, *header), rows = comparison_table(comparisons, results.measure)
    page.table(["compared", *header], [[f"{axis} {first} → {second}", *rest] for axis, first, second, *rest in rows])
