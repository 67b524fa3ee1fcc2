"""What fine-tuning forgot, as a section of a run's report: the base's own task before and after."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from folio.checksums import read_sealed_json
from folio.evaluation.comparing.verdict import in_short, written
from folio.reports.page import Cell, Page
from folio.reports.records import RunRecord
from folio.reports.verdicts import p_heading, score_words

FORGETTING = "forgetting.json"
"""In a run's folder: what the base could do before and after."""


def show_forgetting(page: Page, record: RunRecord) -> None:
    """A section with the table and a sentence for each of its rows; nothing where it was not measured.

    :class:`~folio.errors.ArtifactError` if what was measured is damaged.
    """
    path = record.path / FORGETTING
    if not path.is_file():
        return
    found = read_sealed_json(path, "Remove it, and the report is written without it.")
    text = f" The loss is of {found['text']}." if found.get("text") else ""
    page.section(
        "Forgetting",
        f"What {found['base']} could do before and what {found['tuned']}, made from it, can do after: on the same "
        f"items, paired item by item, so that the luck of the items cancels.{text}",
    )
    page.table(*forgetting_table(found["comparisons"]))
    for one in found["comparisons"]:
        score = score_words(one["measurement"], one["metric"])
        page.paragraph(f"{score[:1].upper()}{score[1:]}: {one['verdict']['words']}.")
    for note in found["notes"]:
        page.paragraph(note)


def key_of(one: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """The measurement, the models and the metric of a comparison that is given as JSON values."""
    return one["measurement"], one["first"], one["second"], one["metric"]


def forgetting_table(comparisons: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Cell]]]:
    """Header and rows: one for each comparison of the base with the model made from it, given as JSON values."""
    p_name = p_heading(one["tests"] for one in comparisons)
    header = ["score", "before", "after", "difference", "95 %", p_name, "n", "verdict"]
    return header, [_row(one) for one in comparisons]


def _row(one: Mapping[str, Any]) -> list[Cell]:
    points, p, verdict = one["discordant"] is not None, one["p_adjusted"], one["verdict"]
    low, high = (_end(one[end], points) for end in ("low", "high"))
    return [
        score_words(one["measurement"], one["metric"]),
        _value(one["first_value"], points),
        _value(one["second_value"], points),
        written(one["difference"], points),
        f"{low} to {high}" if low and high else "no interval",
        "" if _missing(p) else f"{'<' * one['p_is_bound']}{p:.2g}",
        one["n"],
        in_short(verdict["outcome"], verdict["items_needed"], verdict["seeds_needed"]),
    ]


def _value(value: float, points: bool) -> str:
    return f"{value:.1%}" if points else f"{value:.4f}"


def _end(value: float | None, points: bool) -> str:
    return "" if value is None or math.isnan(value) else written(value, points).removesuffix(" points")


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)
