"""``folio study report STUDY``: tables, figures and a page of a study, finished or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from folio.config import Table
from folio.studies.grid.spec import WHOLE
from folio.studies.running.records import StudyFolder
from folio.verbs.action import Outcome, Terminal

ROWS_SHOWN = 12


class ReportOptions(Table):
    """Which study, and where to write its page."""

    study: Positional[str]
    """A study's folder; or a TOML file or shipped name, for the folder that folio study run gives it."""
    scale: str = WHOLE
    """Which form of the study, where a file or name is given."""
    small: bool = False
    """The same as --scale small."""
    out: Path | None = None
    """The study's folder, where a file or name is given and it does not lie in runs/."""
    to: Path | None = None
    """Where to write the page. Empty: report.html in the study's folder."""


def report(options: ReportOptions, terminal: Terminal) -> Outcome:
    """Write tables, figures and page, and print the best. :class:`ArtifactError` for what is no study, or damaged."""
    from folio.verbs.study.opening import scale_of, study_and_folder

    _, folder = study_and_folder(options.study, scale_of(options.scale, options.small), options.out)
    data, wrote = write_report(folder, terminal, options.to)
    return Outcome(data, wrote)


def write_report(
    folder: StudyFolder, terminal: Terminal, to: Path | None = None
) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """What was found, for ``--json``, and what was written; the best combinations are printed."""
    from folio.reports.study.answer import answer_lines
    from folio.reports.study.answer_tables import answer_data
    from folio.reports.study.page import study_report
    from folio.reports.study.tables import short_comparisons, short_table

    found, wrote = study_report(folder, to)
    results = found.results
    header, rows = short_table(results, found.groups)
    terminal.table(header, rows[:ROWS_SHOWN])
    if len(rows) > ROWS_SHOWN:
        terminal.print(f"and {len(rows) - ROWS_SHOWN} more in {folder.path / 'means.md'}")
    for line in results.missing:
        terminal.print(line, style="yellow")
    if found.comparisons:
        head, lines = short_comparisons(found.comparisons, results.measure)
        terminal.table(head, lines[:ROWS_SHOWN])
    for line in answer_lines(found.answers):
        terminal.print(line)
    best = found.best
    statuses = [cell.status for cell in results.cells]
    data = {
        "study": results.study.name,
        "scale": results.study.scale,
        "folder": str(folder.path),
        "measure": results.measure,
        "cells": [
            {
                "name": cell.name,
                "status": cell.status,
                "seed": cell.seed,
                "values": cell.values,
                "numbers": cell.numbers,
            }
            for cell in results.cells
        ],
        "counts": {status: statuses.count(status) for status in dict.fromkeys(statuses)},
        "best": None if best is None else {"values": best.values, "estimate": vars(best.estimate(results.measure))},
        "comparisons": [
            {
                "axis": one.axis,
                "first": one.first,
                "second": one.second,
                "difference": vars(one.estimate),
                "p": one.p,
                "adjusted_p": one.adjusted,
                "verdict": one.verdict,
                "source": one.source,
            }
            for one in found.comparisons
        ],
        "answers": answer_data(found.answers),
    }
    return data, tuple(wrote)
