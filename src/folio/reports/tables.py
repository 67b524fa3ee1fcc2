"""Tables as files beside a page: comma-separated values, and Markdown."""

from __future__ import annotations

import csv
import io

from folio.reports.page import Cell

Table = tuple[list[str], list[list[Cell]]]
"""A header and its rows."""


def as_csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    header, rows = table
    writer.writerow(header)
    writer.writerows([["" if value is None else value for value in row] for row in rows])
    return out.getvalue()


def as_markdown(table: Table) -> str:
    """Fractions to six significant digits; what markdown takes for a border is escaped."""
    header, rows = table
    lines = [header, ["---"] * len(header), *([_short(value) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in line)} |\n" for line in lines)


def _short(value: Cell) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)
