"""The section on packing: what rows of a fixed length do to the documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from folio.reports.charts import HALF, Series, line_chart
from folio.reports.page import Cell, Page

CURVES = {
    "stream_tokens_without_beginning": "without their beginning",
    "row_tokens_lost": "lost, one a row",
    "row_padding": "padding, one a row",
    "best_fit_padding": "padding, best fit",
}


def packing(page: Page, found: Sequence[dict[str, Any]]) -> None:
    """What rows of a fixed length do to the documents, in three ways of filling them."""
    page.section("Packing", "What becomes of documents in rows of so many tokens, an end-of-text for each counted in.")
    if not any(one["packing"] for one in found):
        page.paragraph("No tokens were counted: give --tokenizer FOLDER, or --tokenizer gpt2.")
        return
    known = [one for one in found if one["packing"]]
    page.figures(*(_packing_alone(known[0]) if len(known) == 1 else _packing_beside(known)))
    header = ["block size", *(["text"] if len(found) > 1 else [])]
    header += ["% cut", "pieces", "% without beginning", "% padding", "% lost", "% padding, best fit"]
    rows: list[list[Cell]] = []
    for size in known[0]["packing_shown"]:
        for one in known:
            entry = next(e for e in one["packing"] if e["block_size"] == size)
            rows.append([size, *([one["name"]] if len(found) > 1 else []), *_packing_cells(entry)])
    page.table(header, rows)
    page.paragraph(
        "Cut, pieces of a document on average, and tokens without beginning are those of a stream: documents one after "
        "another, cut wherever a row ends, as Folio trains; averages over all places where the first row may begin. A "
        "token is without beginning if its document begins before its row. Padding and lost: of one document a row, "
        "shorter ones padded, longer ones without their end. Best fit: documents are cut only where they are longer "
        "than a row, and the pieces put together so that little room is left (Ding et al. 2024)."
    )


def _packing_alone(one: dict[str, Any]) -> list[str]:
    """All four curves of one text in one chart."""
    series = [Series(label, *_curve(one, key), dots=True) for key, label in CURVES.items()]
    return [
        line_chart(
            series,
            title="What a block size costs",
            x_label="block size",
            y_label="% of tokens, or of room in rows",
            log_x=True,
            height=300,
        )
    ]


def _packing_beside(known: Sequence[dict[str, Any]]) -> list[str]:
    """A chart for each measure, with the curves of all texts."""
    return [
        line_chart(
            [Series(one["name"], *_curve(one, key), dots=True, colour=index) for index, one in enumerate(known)],
            title=f"{label[0].upper()}{label[1:]}",
            x_label="block size",
            y_label="% of room in rows" if "padding" in key else "% of tokens",
            log_x=True,
            width=HALF,
            height=220,
        )
        for key, label in CURVES.items()
    ]


def _curve(one: dict[str, Any], key: str) -> tuple[list[float], list[float]]:
    return [entry["block_size"] for entry in one["packing"]], [100 * entry[key] for entry in one["packing"]]


def _packing_cells(entry: dict[str, Any]) -> list[Cell]:
    return [
        _percent(entry["stream_documents_cut"]),
        f"{entry['stream_pieces_per_document']:,.2f}",
        _percent(entry["stream_tokens_without_beginning"]),
        _percent(entry["row_padding"]),
        _percent(entry["row_tokens_lost"]),
        _percent(entry["best_fit_padding"]),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
