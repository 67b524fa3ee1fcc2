"""The sections on what is in a text besides words: copies, languages, sizes of rows, documents to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from folio.corpus.exploring import Exploration
from folio.corpus.exploring.languages import UNSURE, language_name
from folio.reports.charts import HALF, WIDE, bar_chart
from folio.reports.exploration.lengths import Side, length_chart
from folio.reports.page import Cell, Page
from folio.reports.quantities import size_text

LANGUAGES = 12
RANDOM_OF_TWO = 4


def copies(page: Page, found: Sequence[dict[str, Any]], comparison: dict[str, Any] | None) -> None:
    """Exact and near-duplicates, and documents that two texts share."""
    page.section("Copies", "Documents whose text is exactly another's, and those that are nearly another's.")
    exact, near = [one["duplicates"] for one in found], [one["near_duplicates"] for one in found]
    rows: list[list[Cell]] = [
        ["documents looked at", *(each["documents"] for each in exact)],
        ["copies of another document", *(each["duplicates"] for each in exact)],
        ["% copies", *(_percent(each["share"]) for each in exact)],
        ["documents compared for near-duplicates", *(each["documents"] for each in near)],
        ["near-duplicates among them", *(each["near_duplicates"] for each in near)],
    ]
    if comparison is not None:
        shared = comparison["documents"]
        rows.append(["documents whose exact text the other has", *shared["documents"]])
        rows.append(["% of documents whose text the other has", *(_percent(share) for share in shared["shares"])])
    page.table(["", *(one["name"] if len(found) > 1 else "" for one in found)], rows)
    page.paragraph(
        f"Near: {near[0]['similarity']:g} or more of the runs of {near[0]['shingle_words']} words in common (Jaccard). "
        "Among a part of a text fewer copies meet than in the whole."
    )
    if any(each["one_text_in"] > 1 for each in exact):
        page.note("So many texts were counted by a share of them, drawn by hash; the numbers of copies are estimates.")
    for one in found:
        of = f" in {one['name']}" if len(found) > 1 else ""
        if most := one["duplicates"]["most_copied"]:
            page.table(
                ["copies", "begins"], [[e["copies"], e["excerpt"]] for e in most], caption=f"The most copied{of}"
            )
        if examples := one["near_duplicates"]["examples"]:
            page.table(
                ["document", "is like", "similarity", "begins"],
                [[e["id"], e["like"], e["similarity"], e["excerpt"]] for e in examples],
                caption=f"Near-duplicates{of}",
            )


def languages(page: Page, found: Sequence[dict[str, Any]]) -> None:
    """Shares of documents by language, with their intervals."""
    page.section("Languages")
    known = [one["languages"] for one in found]
    if None in known:
        page.paragraph("Languages were not looked at: that needs py3langid (pip install 'folio-lm[data]').")
        return
    charts = []
    for index, one in enumerate(found):
        shown = one["languages"]["languages"][:LANGUAGES]
        bars = {_named(e["language"]): round(100 * e["share"], 2) for e in shown}
        title = f"Languages of {one['name']}" if len(found) > 1 else "Languages"
        charts.append(
            bar_chart(
                bars, title=title, value_label="% of documents", colour=index, width=HALF if len(found) > 1 else WIDE
            )
        )
    if any(len(one["languages"]) > 1 for one in known):
        page.figures(*charts)
    codes = list(dict.fromkeys(e["language"] for one in known for e in one["languages"]))[: 2 * LANGUAGES]
    by_code = [{e["language"]: e for e in one["languages"]} for one in known]
    estimated = any(one["look"]["how"] != "whole" or one["languages"]["documents"] < one["documents"] for one in found)
    header = ["language"]
    for one in found:
        of = f", {one['name']}" if len(found) > 1 else ""
        header += [f"documents{of}", f"%{of}", *(["95 %"] if estimated else [])]
    page.table(
        header,
        [
            [_named(code), *(c for side in by_code for c in _language_cells(side.get(code), estimated))]
            for code in codes
        ],
    )
    read = " and ".join(f"{one['documents']:,}" for one in known)
    page.paragraph(
        f"Of {read} documents, by py3langid; below a probability of {known[0]['confidence']:.2f} it is unsure."
        + (" The intervals are those of documents drawn each on its own (Wilson)." if estimated else "")
    )


def row_sizes(page: Page, explorations: Sequence[Exploration]) -> None:
    """Bytes of documents, and of the row groups of a parquet source."""
    if all(each.record["documents_listed"] and not each.record["row_groups"] for each in explorations):
        return  # each document has its bar already
    page.section("Sizes of rows", "Bytes of each document as UTF-8.")
    charts = []
    sides = [Side(each.name, each.statistics.byte_lengths) for each in explorations]
    charts.append(length_chart(sides, title="Bytes of a document", unit="bytes", of="documents"))
    grouped = [(colour, each) for colour, each in enumerate(explorations) if each.record["row_groups"]]
    if grouped:
        sides = [Side(each.name, each.row_bytes, colour) for colour, each in grouped]
        charts.append(length_chart(sides, title="Bytes of a row group", unit="bytes, unpacked", of="row groups"))
    page.figures(*charts)
    for _, each in grouped:
        groups = each.record["row_groups"]
        quantiles = zip(groups["rows"]["quantiles"], groups["bytes"]["quantiles"], strict=True)
        of = f" of {each.name}" if len(explorations) > 1 else ""
        page.table(
            ["no more than", "rows", "text and ids, unpacked"],
            [[f"{rows['quantile']:.0%}", round(rows["rows"]), size_text(size["bytes"])] for rows, size in quantiles],
            caption=f"The {groups['count']:,} row groups{of}: of the whole source, whatever was looked at",
        )


def documents(page: Page, found: Sequence[dict[str, Any]]) -> None:
    """A few documents to read, drawn at random."""
    page.section("Random documents")
    for one in found:
        for entry in one["random_documents"][: None if len(found) == 1 else RANDOM_OF_TWO]:
            cut = f", of which the first {len(entry['text']):,}" if entry["cut"] else ""
            of = f"{one['name']}: " if len(found) > 1 else ""
            page.sample(
                entry["text"] + (" …" if entry["cut"] else ""),
                title=f"{of}{entry['id']} ({entry['characters']:,} characters{cut})",
            )


def _named(code: str) -> str:
    name = language_name(code)
    return code if code == UNSURE or name == code else f"{name} ({code})"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _language_cells(entry: dict[str, Any] | None, estimated: bool) -> list[Cell]:
    if entry is None:
        return [0, 0.0, *([""] if estimated else [])]
    interval = f"{100 * entry['share_low']:.1f}–{100 * entry['share_high']:.1f}"
    return [entry["documents"], round(100 * entry["share"], 2), *([interval] if estimated else [])]
