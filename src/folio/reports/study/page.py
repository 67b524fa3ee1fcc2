"""The report of a study: tables, figures, and one self-contained page."""

from __future__ import annotations

from pathlib import Path

from folio.artifacts import write_file
from folio.reports.charts import standalone
from folio.reports.page import Page
from folio.reports.study.answer import show_answer
from folio.reports.study.answer_tables import contrast_table
from folio.reports.study.figures import figures_of
from folio.reports.study.own_figures import show_own_figures
from folio.reports.study.rates_and_oracle import show_found, tell_edges
from folio.reports.study.sections import LOST, headline, show_best, show_comparisons, tell_what_is_missing
from folio.reports.study.sizes import size_table
from folio.reports.study.tables import cell_table, comparison_table, mean_table
from folio.reports.study.words import show_words
from folio.reports.tables import as_csv, as_markdown
from folio.studies.findings.results import Results, words_of
from folio.studies.findings.summary import Findings, findings_of
from folio.studies.running.records import StudyFolder

REPORT = "report.html"


def study_report(folder: StudyFolder, to: Path | None = None) -> tuple[Findings, list[Path]]:
    """Write ``report.html`` (or ``to``), ``figures/``, and each table as .csv and .md.

    What was found, and the paths. :class:`ArtifactError` for a folder that is damaged or no study.
    """
    found = findings_of(folder)
    results, groups = found.results, found.groups
    figures = figures_of(results, groups)
    tables = {"cells": cell_table(results), "means": mean_table(results, groups)}
    tables["comparisons"] = comparison_table(found.comparisons, results.measure)
    tables["sizes"] = size_table(results, groups)
    tables |= {"contrasts": contrast_table(found.answers)} if found.answers else {}
    for name, table in tables.items():
        write_file(folder.path / f"{name}.csv", as_csv(table))
        write_file(folder.path / f"{name}.md", as_markdown(table))
    page = _page(folder, found, figures)
    for old in (folder.path / "figures").glob("*.svg"):
        if old.stem not in figures:
            old.unlink()
    for name, svg in figures.items():
        write_file(folder.path / "figures" / f"{name}.svg", standalone(svg))
    written = [page.write(to or folder.path / REPORT), *(folder.path / f"{name}.csv" for name in tables)]
    return found, written


def _page(folder: StudyFolder, found: Findings, figures: dict[str, str]) -> Page:
    """The page; ``figures`` gets those that its sections draw for themselves."""
    results, groups = found.results, found.groups
    of_axes = [svg for name, svg in figures.items() if name != "curves" and not _is_cost(name)]
    study = results.study
    scale = "" if study.scale == "whole" else f" · scale {study.scale}"
    page = Page(
        study.title or study.name, f"{len(results.cells)} cells over {_axes_words(results)}{scale}", kind="study"
    )
    page.headline(headline(found))
    for line in results.missing:
        page.note(line[:1].upper() + line[1:] + ".")
    tell_what_is_missing(page, results)
    tell_edges(page, folder)
    if study.question:
        page.section("Question", study.question)
    figures |= show_answer(page, found.answers)
    show_best(page, found)
    figures |= show_own_figures(page, results, groups)
    show_comparisons(page, found)
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
    show_found(page, results, folder)
    figures |= show_words(page, folder, results)
    page.section("Means over seeds", "The best first.")
    page.table(*mean_table(results, groups))
    page.section("Sizes and times", "Means over seeds.")
    page.table(*size_table(results, groups))
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
