"""The page: one text, or two side by side, section by section."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from folio.corpus.exploring import Exploration
from folio.corpus.statistics import QUANTILES
from folio.reports.charts import WIDE
from folio.reports.exploration.comparing import glance, words_apart
from folio.reports.exploration.contents import copies, documents, languages, row_sizes
from folio.reports.exploration.lengths import Side, document_bars, length_chart
from folio.reports.exploration.packing import packing
from folio.reports.exploration.words import vocabulary, words
from folio.reports.page import Cell, Page, Stat
from folio.reports.scales import short_number

ESTIMATES = {
    "characters_per_document": "characters a document",
    "bytes_per_document": "bytes a document",
    "words_per_document": "words and marks a document",
    "tokens_per_document": "tokens a document",
    "bytes_per_token": "bytes a token",
    "tokens_per_byte": "tokens a byte",
    "tokens_per_word": "tokens a word or mark",
}


def exploration_page(explorations: Sequence[Exploration], comparison: dict[str, Any] | None = None) -> Page:
    """Draw one exploration, or two with the ``comparison`` of their words and documents."""
    names = [each.name for each in explorations]
    found = [each.record for each in explorations]
    subtitle = (
        "What this text is made of" if len(names) == 1 else "What two texts are made of, and what tells them apart"
    )
    page = Page(" against ".join(names), subtitle, kind="corpus")
    if len(found) == 1:
        page.headline(_stats(found[0]))
        _looked(page, found)
        _estimates(page, found[0])
    else:
        glance(page, found)
        _looked(page, found)
    page.paragraph(
        "A word here is a run of letters or digits; words and marks are these and each mark of punctuation and line "
        "end. A type is a different one. Tokens are those of the tokenizer, where one was given, end-of-text left out."
    )
    _lengths(page, explorations)
    words(page, found)
    if comparison is not None:
        words_apart(page, names, comparison)
    vocabulary(page, found)
    copies(page, found, comparison)
    languages(page, found)
    row_sizes(page, explorations)
    packing(page, found)
    documents(page, found)
    _details(page, found)
    return page


def _stats(found: dict[str, Any]) -> list[Stat]:
    stats = [
        Stat("documents", f"{found['documents']:,}"),
        Stat("characters", f"{found['characters']:,}", note=f"{found['alphabet_size']:,} different ones"),
        Stat("bytes", f"{found['bytes']:,}", note="UTF-8"),
        Stat("words and marks", f"{found['tokens']:,}"),
        Stat("types", f"{found['types']:,}", note="different words and marks" + _at_least(found)),
    ]
    if found["encoded_tokens"]:
        per_byte = found["encoded_tokens"] / max(1, found["bytes"])
        made_by = (found.get("tokenizer") or {}).get("kind", "the tokenizer")
        note = f"of {made_by}; {1 / per_byte:.2f} bytes each, {per_byte:.3f} a byte"
        stats.append(Stat("tokens", f"{found['encoded_tokens']:,}", note=note))
    return stats


def _at_least(found: dict[str, Any]) -> str:
    return f"; rare ones dropped, counts up to {found['types_missed']:,} too low" if found["types_missed"] else ""


def _looked(page: Page, found: Sequence[dict[str, Any]]) -> None:
    """How much of each text was looked at; set apart where it is not the whole."""
    for one in found:
        sentence = one["look"]["sentence"] + _seen(one)
        write = page.paragraph if one["look"]["how"] == "whole" else page.note
        write(f"{one['name']}: {sentence[0].lower()}{sentence[1:]}" if len(found) > 1 else sentence)


def _seen(found: dict[str, Any]) -> str:
    """What was left out or damaged on the way."""
    cleaning = found["cleaning"] or {}
    parts = [f"{cleaning[key]:,} {name}" for key, name in _LEFT_OUT.items() if cleaning.get(key)]
    parts += [f"{found['damaged']:,} damaged places passed over"] if found["damaged"] else []
    return f" Left out: {', '.join(parts)}." if parts else ""


_LEFT_OUT = {"empty": "empty documents", "duplicate": "exact duplicates"}


def _estimates(page: Page, found: dict[str, Any]) -> None:
    look = found["look"]
    if look["how"] != "sample":
        return
    rows: list[list[Cell]] = []
    for key, label in ESTIMATES.items():
        if (one := found["estimates"].get(key)) is not None:
            rows.append([label, *_with_error(one["value"], one["standard_error"])])
    for key, label in (("bytes_per_document", "bytes"), ("tokens_per_document", "tokens")):
        one = found["estimates"].get(key)
        if one is not None and look["population"]:
            error = one["standard_error"]
            of_all = None if error is None else error * look["population"]
            rows.append([f"{label} of the whole", *_with_error(one["value"] * look["population"], of_all)])
    page.table(["estimated", "value", "standard error"], rows)


def _with_error(value: float, error: float | None) -> list[Cell]:
    return [short_number(value), None if error is None else short_number(error)]


def _lengths(page: Page, explorations: Sequence[Exploration]) -> None:
    found = [each.record for each in explorations]
    page.section("Lengths", "How long documents are, and lines that are not empty.")
    statistics = [each.statistics for each in explorations]
    names = [each.name for each in explorations]
    if all(one["documents_listed"] for one in found):
        for colour, one in enumerate(found):
            key = "tokens" if one["encoded_tokens"] is not None else "words"
            listed = one["documents_listed"]
            if len(listed) > 1:
                title = f"The documents of {one['name']}" if len(found) > 1 else "The documents"
                bars = (document_bars(listed, title=title, key=name, colour=colour) for name in ("characters", key))
                page.figures(*bars)
    else:
        sides = [Side(name, each.character_lengths) for name, each in zip(names, statistics, strict=True)]
        charts = [length_chart(sides, title="Characters of a document", unit="characters", of="documents")]
        if any(each.encoded_lengths.counts for each in statistics):
            sides = [Side(name, each.encoded_lengths) for name, each in zip(names, statistics, strict=True)]
            charts.append(length_chart(sides, title="Tokens of a document", unit="tokens", of="documents"))
        else:
            sides = [Side(name, each.document_lengths) for name, each in zip(names, statistics, strict=True)]
            charts.append(length_chart(sides, title="Words and marks of a document", unit="words", of="documents"))
        page.figures(*charts)
    sides = [Side(name, each.line_lengths) for name, each in zip(names, statistics, strict=True)]
    page.figures(
        length_chart(sides, title="Words and marks of a line", unit="words and marks", of="lines", width=WIDE),
        caption="Where an axis is not logarithmic the longest thousandth is left out of the drawing, not of the table.",
    )
    _quantiles(page, found)


def _quantiles(page: Page, found: Sequence[dict[str, Any]]) -> None:
    """Lengths that so many documents and lines do not exceed, a row each."""
    kinds = {
        "document_characters": ("characters", "characters of a document"),
        "document_tokens": ("tokens", "words and marks of a document"),
        "document_encoded": ("tokens", "tokens of a document"),
        "line_tokens": ("tokens", "words and marks of a line"),
    }
    rows: list[list[Cell]] = []
    for key, (unit, label) in kinds.items():
        for one in found:
            if one[key] and one[key]["quantiles"]:
                values = [round(entry[unit]) for entry in one[key]["quantiles"]]
                cells = [f"{value:,}" for value in values] if len(found) == 1 else map(short_number, values)
                rows.append([label, *([one["name"]] if len(found) > 1 else []), *cells])
    quantiles = ["shortest", *(f"{share:.0%}" for share in QUANTILES[1:-1]), "longest"]
    header = ["no longer than", *(["text"] if len(found) > 1 else []), *quantiles]
    page.table(header, rows, caption="Lengths that so many documents, or lines, do not exceed")


def _details(page: Page, found: Sequence[dict[str, Any]]) -> None:
    page.section("Details")
    for one in found:
        of = f" of {one['name']}" if len(found) > 1 else ""
        page.details(f"Source{of}", {**one["source"], "looked_at": one["look"], "tokenizer": one.get("tokenizer")})
        shown = len(one["alphabet"])
        most = f"the {shown:,} most frequent of {one['alphabet_size']:,}"
        title = "Every character that occurs" if shown == one["alphabet_size"] else f"Characters, {most}"
        page.details(title + of, one["alphabet"])
