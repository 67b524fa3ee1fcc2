"""The page of ``folio corpus explore``: what a corpus is made of."""

from __future__ import annotations

from typing import Any

from folio.corpus.statistics import Lengths, Statistics
from folio.reports.charts import WIDE, Series, bar_chart, histogram, line_chart
from folio.reports.page import Page, Stat

LENGTH_QUANTILES = (0.5, 0.95, 0.99)


def exploration_page(name: str, statistics: Statistics, found: dict[str, Any]) -> Page:
    """Draw ``found``, the :func:`folio.corpus.exploration.summary` of ``statistics``."""
    page = Page(name, "What this text is made of", kind="corpus")
    page.headline(_stats(found))
    page.note("A token here is a word, a mark of punctuation or a line end, not a space. A type is a different token.")
    page.section("Lengths", "How many tokens a document has, and a line that is not empty.")
    page.figures(
        _lengths(statistics.document_lengths, "Tokens of a document", "documents"),
        _lengths(statistics.line_lengths, "Tokens of a line", "lines"),
        caption="The longest thousandth is left out of the drawings, not of the table.",
    )
    rows = zip(found["document_tokens"]["quantiles"], found["line_tokens"]["quantiles"], strict=False)
    page.table(
        ["no longer than", "document", "line"],
        [[f"{document['quantile']:.0%}", document["tokens"], line["tokens"]] for document, line in rows],
    )
    page.section("Words")
    page.figures(
        bar_chart(
            {entry["word"]: entry["count"] for entry in found["top_words"]},
            title="The most frequent words",
            value_label="occurrences",
            width=WIDE,
        )
    )
    page.section("Vocabulary", "How much of the text the most frequent types reach.")
    curve = found["coverage"]
    page.figures(
        line_chart(
            [Series("covered", [point["types"] for point in curve], [100 * point["share"] for point in curve])],
            title="Vocabulary coverage",
            x_label="most frequent types",
            y_label="% of tokens",
            log_x=True,
        )
    )
    page.table(
        ["share of tokens", "types needed"],
        [[f"{entry['share']:.0%}", entry["types"]] for entry in found["types_covering"]],
    )
    page.table(
        ["least occurrences", "types", "% of tokens"],
        [[entry["min_count"], entry["types"], 100 * entry["share"]] for entry in found["min_count"]],
        caption="A vocabulary without rare types",
    )
    page.details("Every character that occurs", found["alphabet"])
    return page


def _stats(found: dict[str, Any]) -> list[Stat]:
    names = {"documents": "", "characters": "", "bytes": "UTF-8", "tokens": "", "types": ""}
    stats = [Stat(name, f"{found[name]:,}", note=note) for name, note in names.items()]
    if found["encoded_tokens"] is not None:
        per_token = found["bytes"] / max(1, found["encoded_tokens"])
        stats.append(Stat("tokenizer's ids", f"{found['encoded_tokens']:,}", note=f"{per_token:.2f} bytes each"))
    return stats


def _lengths(lengths: Lengths, title: str, unit: str) -> str:
    values = lengths.sample()
    total = lengths.counts.total()
    label = unit if len(values) == total else f"of {len(values):,} {unit}, evenly drawn from {total:,}"
    drawn = values[: -(-len(values) * 999 // 1000)]
    bins = min(40, drawn[-1] - drawn[0] + 1) if drawn else 1
    return histogram(drawn, title=title, x_label="tokens", y_label=label, bins=bins, quantiles=LENGTH_QUANTILES)
