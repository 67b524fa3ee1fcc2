"""Sections that every study's page has: the headline, what is missing, the best cells, and each two values compared."""

from __future__ import annotations

import math

from folio.reports.page import Page, Stat
from folio.reports.scales import short_number
from folio.reports.study.figures import comparison_figure
from folio.reports.study.tables import comparison_table, interval_text, spent, words_of_group
from folio.studies.findings.results import Results, words_of
from folio.studies.findings.statistics import pooled_spread, ranked
from folio.studies.findings.summary import Findings

LOST = ("failed", "diverged")
MOST_COMPARED = 60
"""Rows of the comparison's figure; the table has all."""


def headline(found: Findings) -> list[Stat]:
    """The best mean, how much is finished, and the time it took."""
    stats, results, best = [], found.results, found.best
    if best is not None and (estimate := best.estimate(results.measure)) is not None:
        interval = interval_text(estimate)
        counted = f"95 % {interval}, {estimate.n} seeds" if interval else f"n = {estimate.n}"
        note = f"{counted}; {words_of_group(best, results.axes)}"
        stats.append(Stat("Best mean", short_number(estimate.value), words_of(results.measure), note))
    statuses = [cell.status for cell in results.cells]
    other = ", ".join(f"{statuses.count(s)} {s}" for s in dict.fromkeys(statuses) if s != "finished")
    stats.append(Stat("Cells finished", f"{statuses.count('finished')} of {len(statuses)}", note=other))
    return [*stats, Stat("Time in training", spent(results))]


def tell_what_is_missing(page: Page, results: Results) -> None:
    """Notes of cells that are in no mean."""
    for status in LOST:
        if count := sum(cell.status == status for cell in results.cells):
            counted = "One cell" if count == 1 else f"{count} cells"
            page.note(f"{counted} {status}, and stand in no mean and no comparison; why is told under Lost cells.")
    if left := sum(cell.status in ("waiting", "begun", "running") for cell in results.cells):
        page.note(f"{left} of {len(results.cells)} cells are not finished yet: all that follows is of the others.")


def show_best(page: Page, found: Findings) -> None:
    """The best combination of each value of each axis: what the axis can reach, and where."""
    results, groups, best = found.results, found.groups, found.best
    if best is None:
        return
    lower = results.lower_is_better(results.measure)
    rows = []
    for axis in results.axes:
        for value in {repr(group.values[axis]): group.values[axis] for group in groups}.values():
            if value is None:
                continue  # another grid, which does not have the axis
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


def show_comparisons(page: Page, found: Findings) -> None:
    """Each two values of each axis."""
    results, comparisons = found.results, found.comparisons
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
