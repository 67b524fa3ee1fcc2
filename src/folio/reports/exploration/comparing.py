"""Two texts at a glance, and the words that tell one from the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from folio.reports.charts import bar_chart
from folio.reports.page import Cell, Page
from folio.reports.scales import short_number

TOTALS = {
    "documents": "documents",
    "characters": "characters",
    "bytes": "bytes",
    "tokens": "words and marks",
    "types": "types",
    "encoded_tokens": "tokens",
}
MEANS = {
    "characters_per_document": "characters a document",
    "words_per_document": "words and marks a document",
    "tokens_per_document": "tokens a document",
    "bytes_per_token": "bytes a token",
    "tokens_per_byte": "tokens a byte",
    "tokens_per_word": "tokens a word or mark",
}
SHOWN = 20


def glance(page: Page, found: Sequence[dict[str, Any]]) -> None:
    """Totals and means of both, their difference and ratio and, of samples, the difference's standard error."""
    sampled = any(each["look"]["how"] == "sample" for each in found)
    rows: list[list[Cell]] = []
    for key, label in TOTALS.items():
        pair = [each[key] for each in found]
        if None not in pair:
            rows.append([label, *(f"{value:,}" for value in pair), *_apart(*pair), *([None] if sampled else [])])
    for key, label in MEANS.items():
        estimates = [each["estimates"].get(key) for each in found]
        if all(estimates):
            values = [each["value"] for each in estimates]
            error = [_error_of_difference(estimates)] if sampled else []
            rows.append([label, *map(short_number, values), *_apart(*values), *error])
    header = ["", *(each["name"] for each in found), "difference", "ratio", *(["standard error"] if sampled else [])]
    page.table(header, rows)
    if sampled:
        page.paragraph(
            "The standard error is that of the difference of the means. Totals are of what was looked at, which says "
            "nothing about which text is larger."
        )
    kinds = [each.get("tokenizer") for each in found]
    if all(kinds) and kinds[0] != kinds[1]:
        page.note("The tokens are those of two tokenizers: their counts say as much about these as about the texts.")


def words_apart(page: Page, names: Sequence[str], comparison: dict[str, Any]) -> None:
    """The words most one text's own, and what the vocabularies share."""
    page.section("What tells them apart", "Words that are far more frequent in one text than in the other.")
    charts = [
        bar_chart(
            {entry["word"]: round(abs(entry["z"]), 1) for entry in entries[:SHOWN]},
            title=f"Most {name}'s own",
            value_label="difference of log-odds, in standard deviations",
            colour=colour,
        )
        for colour, (name, entries) in enumerate(zip(names, comparison["distinctive"], strict=True))
    ]
    if any(comparison["distinctive"]):
        page.figures(
            *charts,
            caption="Log-odds with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008): the prior is the "
            f"words of both texts, weighing {comparison['prior_share']:.0%} of the smaller one. Capitals count as "
            "small letters.",
        )
        page.table(
            [cell for name in names for cell in (f"{name}'s own", *(f"in {each}" for each in names))],
            _rates(comparison),
            caption="The same in numbers: occurrences among a million words",
        )
    else:
        page.paragraph("No word is more one text's than the other's.")
    shared = comparison["overlap"]
    page.table(
        ["", *names],
        [
            ["different words", *shared["types"]],
            ["% of them that the other has", *(round(100 * share, 2) for share in shared["shares_of_types"])],
            [
                "% of its running words that the other has",
                *(round(100 * share, 2) for share in shared["shares_of_tokens"]),
            ],
        ],
        caption=f"The vocabularies share {shared['shared_types']:,} words"
        + (
            f"; their frequencies are {shared['divergence_bits']:.3f} bits apart (Jensen-Shannon: 0 is the same, "
            "1 nothing in common)"
            if shared["divergence_bits"] is not None
            else ""
        ),
    )


def _rates(comparison: dict[str, Any]) -> list[list[Cell]]:
    """A row for each rank: the word most one text's own with its rates in both, then the other's."""
    totals = comparison["words"]
    rows: list[list[Cell]] = []
    for entries in zip_longest(*(side[:SHOWN] for side in comparison["distinctive"])):
        row: list[Cell] = []
        for entry in entries:
            if entry is None:
                row += ["", None, None]
            else:
                rates = (round(1e6 * count / total) for count, total in zip(entry["counts"], totals, strict=True))
                row += [entry["word"], *rates]
        rows.append(row)
    return rows


def _apart(one: float, other: float) -> list[Cell]:
    """Difference and ratio, written."""
    ratio = one / other if other else math.nan
    return [short_number(one - other), f"{ratio:,.3g}" if ratio < 1e4 else short_number(ratio)]


def _error_of_difference(pair: Sequence[dict[str, Any]]) -> str | None:
    errors = [each["standard_error"] for each in pair]
    return None if None in errors else short_number(math.hypot(*errors))
