"""Scores with their intervals: a page about one evaluation, and one that compares several models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from folio.evaluation.comparing.comparison import Arm, Comparison
from folio.evaluation.comparing.verdict import written
from folio.evaluation.results import Evaluation, Score
from folio.reports.drawing import WIDE
from folio.reports.intervals import Interval, interval_chart
from folio.reports.page import Cell, Page, Stat
from folio.reports.scales import short_number
from folio.reports.verdicts import without_columns

SCORES = ("task", "convention", "metric", "value", "± s.e.", "95 % from", "to", "n", "of", "better")
COLOURS = {"better": 2, "worse": 1, "cannot tell": 7}


def evaluation_report(evaluation: Evaluation, to: Path | None = None) -> Path:
    """Write a page with every score of one evaluation; by default ``report.html`` within its folder."""
    page = Page(f"Evaluation of {evaluation.model}", str(evaluation.path), kind="evaluation")
    scores = [(name, score) for name, one in evaluation.measurements.items() for score in one.scores]
    page.headline(
        Stat(f"{name} {one.metric}", short_number(one.value), note=f"n = {one.n:,} {one.unit}, {_interval(one)}")
        for name, one in scores
    )
    page.section(
        "Scores",
        "Each interval covers the true value in 95 % of samples of items like these; it does not speak of another "
        "seed of training.",
    )
    page.table(SCORES, [_each_its_digits(row) for row in score_rows(evaluation)])
    shares = [(name, one) for name, one in scores if _is_share(one)]
    if shares:
        rows = [Interval(f"{name} {one.metric}", one.value, one.low, one.high) for name, one in shares]
        page.figures(interval_chart(rows, title="Shares, with 95 % intervals", x_label="share of items"))
    page.section("How it was measured")
    for name, measurement in evaluation.measurements.items():
        page.details(name, {"items": len(measurement.items), **measurement.facts}, open=len(scores) < 8)
    page.details("Configuration", dict(evaluation.config))
    return page.write(to or evaluation.path / "report.html")


def score_rows(evaluation: Evaluation) -> list[list[Cell]]:
    """A row of :data:`SCORES` for each score."""
    keys = ("task", "convention", "metric", "value", "standard_error", "low", "high", "n", "unit", "better")
    scores = [score for measurement in evaluation.measurements.values() for score in measurement.scores]
    return [[getattr(score, key) for key in keys] for score in scores]


def _each_its_digits(row: Sequence[Cell]) -> list[Cell]:
    """A row of which each fraction has its own four digits: a column holds shares beside perplexities."""
    return [short_number(cell) if isinstance(cell, float) else cell for cell in row]


def comparison_report(arms: Sequence[Arm], comparisons: Sequence[Comparison], notes: Sequence[str], to: Path) -> Path:
    """Write a page with the verdicts, a forest plot for each score, and the tables behind them, to ``to``."""
    names = [arm.name for arm in arms]
    page = Page(f"{len(arms)} models compared", ", ".join(names), kind="comparison")
    page.section("Verdicts")
    page.table(
        ("score", "of", "against", "verdict"),
        [[_score(one), one.second, one.first, one.verdict.words] for one in comparisons],
    )
    for note in notes:
        page.note(note)
    corrected = any(one.tests > 1 for one in comparisons)
    by = "; p is corrected for the other comparisons of the same score (Holm), and the verdict goes by it" * corrected
    page.section(
        "Differences",
        "Paired, item by item, on the items that both models have. Each line is one comparison's own 95 % "
        f"interval{by}.",
    )
    page.figures(*forests(comparisons))
    unused = () if corrected else ("p corrected",)
    page.table(*without_columns(DIFFERENCES, difference_rows(comparisons), unused))
    for method in dict.fromkeys(one.difference.method for one in comparisons):
        page.paragraph(f"{method[0].upper()}{method[1:]}.")
    page.section("Scores of each model", "Over all items of its own evaluation, with the interval of that model alone.")
    rows = [
        [arm.name, one.model, *_each_its_digits(row)]
        for arm in arms
        for one in arm.evaluations
        for row in score_rows(one)
    ]
    page.table(("compared as", "model", *SCORES), rows)
    return page.write(to)


DIFFERENCES = (
    "score", "second", "first", "its value", "first's", "difference", "95 % from", "to", "p", "p corrected", "n",
    "only second right", "only first right", "detectable",
)  # fmt: skip


def difference_rows(comparisons: Iterable[Comparison]) -> list[list[Cell]]:
    """A row of :data:`DIFFERENCES` for each comparison; shares and their differences as fractions."""
    rows: list[list[Cell]] = []
    for one in comparisons:
        by, sign = one.difference, "<" * one.difference.p_is_bound
        right = by.discordant or (None, None)
        rows.append(
            [
                _score(one),
                one.second,
                one.first,
                one.second_value,
                one.first_value,
                by.value,
                by.low,
                by.high,
                sign + short_number(by.p),
                sign + short_number(one.p_adjusted),
                by.n,
                *right,
                one.verdict.detectable,
            ]
        )
    return rows


def forests(comparisons: Sequence[Comparison]) -> list[str]:
    """A forest plot for each score: its comparisons share an axis."""
    charts = []
    for name, group in groupby(comparisons, _score):
        rows = list(group)
        scale = 100 if rows[0].accuracy else 1
        unit = "percentage points" if rows[0].accuracy else rows[0].score.metric.replace("_", " ")
        side = "right" if rows[0].score.better == "higher" else "left"
        charts.append(
            interval_chart(
                [
                    Interval(
                        f"{one.second} − {one.first}",
                        scale * one.difference.value,
                        scale * one.difference.low,
                        scale * one.difference.high,
                        f"{written(one.difference.value, one.accuracy)}: {one.verdict.outcome}",
                        COLOURS[one.verdict.outcome],
                    )
                    for one in rows
                ],
                title=name,
                x_label=f"difference in {unit} (further {side} is better)",
                reference=0.0,
                width=WIDE,
            )
        )
    return charts


def _score(one: Comparison) -> str:
    return f"{one.measurement} {one.score.metric}"


def _interval(score: Score) -> str:
    return f"95 % {short_number(score.low)} to {short_number(score.high)}"


def _is_share(score: Score) -> bool:
    return score.denominator is None and not score.transform and score.low >= 0 and score.high <= 1
