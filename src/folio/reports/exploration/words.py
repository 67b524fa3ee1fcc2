"""Words: the most frequent, a cloud of those that say something, and how far a vocabulary reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from folio.reports.charts import HALF, WIDE, Series, bar_chart, line_chart
from folio.reports.exploration.cloud import word_cloud
from folio.reports.page import Page

TOP_BARS = 20
CLOUD_OF_TWO = 70


def words(page: Page, found: Sequence[dict[str, Any]]) -> None:
    """Clouds first, then the most frequent words as bars."""
    page.section("Words")
    two = len(found) > 1
    clouds = [
        word_cloud(
            [(entry["word"], entry["count"]) for entry in one["cloud"][: CLOUD_OF_TWO if two else None]],
            title=f"Words of {one['name']}" if two else "What it speaks of",
            width=HALF if two else WIDE,
            height=360 if two else 420,
        )
        for one in found
    ]
    page.figures(
        *clouds,
        caption="Size goes by how often a word occurs. English function words (the, of, she, would, ...), numbers and "
        "single letters are left out; capitals count as small letters.",
    )
    bars = [
        bar_chart(
            {entry["word"]: entry["count"] for entry in one["top_words"][: TOP_BARS if two else None]},
            title=f"The most frequent words of {one['name']}" if two else "The most frequent words",
            value_label="occurrences",
            width=HALF if two else WIDE,
            colour=index,
        )
        for index, one in enumerate(found)
    ]
    page.figures(*bars)


def vocabulary(page: Page, found: Sequence[dict[str, Any]]) -> None:
    """How much of each text its most frequent types reach, and how many types a least count leaves."""
    page.section("Vocabulary", "How much of the text the most frequent types reach.")
    page.figures(
        line_chart(
            [
                Series(
                    one["name"] if len(found) > 1 else "covered",
                    [point["types"] for point in one["coverage"]],
                    [100 * point["share"] for point in one["coverage"]],
                    colour=index,
                )
                for index, one in enumerate(found)
            ],
            title="Vocabulary coverage",
            x_label="most frequent types",
            y_label="% of words and marks",
            log_x=True,
        )
    )
    names = [f", {one['name']}" if len(found) > 1 else "" for one in found]
    shares = zip(*(one["types_covering"] for one in found), strict=True)
    page.table(
        ["share of words and marks", *(f"types needed{name}" for name in names)],
        [[f"{entries[0]['share']:.0%}", *(entry["types"] for entry in entries)] for entries in shares],
    )
    least = zip(*(one["min_count"] for one in found), strict=True)
    page.table(
        ["least occurrences", *(f"{what}{name}" for name in names for what in ("types", "% reached"))],
        [
            [entries[0]["min_count"], *(cell for e in entries for cell in (e["types"], 100 * e["share"]))]
            for entries in least
        ],
        caption="A vocabulary without rare types",
    )
