"""Benchmarks and other texts that a run measured while it trained, as curves with their intervals and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from folio.reports.charts import HALF, Series, line_chart
from folio.reports.page import Cell, Page
from folio.reports.records import RunRecord

Points = list[tuple[int, Mapping[str, Any]]]
"""Steps, and a score as a line of metrics has it: value, low, high, n, unit, convention."""


def show_probes(page: Page, record: RunRecord) -> None:
    """A section with each score over the steps, its 95 % interval dashed, and the last of each; none if none was."""
    scores = scores_over_steps(record)
    if not scores:
        return
    page.section("Measured while training", "On a fixed sample; the dashed lines are the ends of the 95 % interval.")
    page.figures(*(_chart(name, metric, points) for (name, metric), points in scores.items() if len(points) > 1))
    header = ("measured", "convention", "metric", "step", "value", "95 % from", "to", "n", "of")
    page.table(header, [_row(name, metric, points) for (name, metric), points in scores.items()], caption="The last")


def scores_over_steps(record: RunRecord) -> dict[tuple[str, str], Points]:
    """Every score by name and metric, in the order of steps."""
    found: dict[tuple[str, str], Points] = {}
    for line in record.of_kind("evaluation"):
        for metric, score in line["scores"].items():
            found.setdefault((line["name"], metric), []).append((int(line["step"]), score))
    return found


def _chart(name: str, metric: str, points: Points) -> str:
    steps = [step for step, _ in points]

    def values(key: str) -> Sequence[float]:
        return [float("nan") if score[key] is None else float(score[key]) for _, score in points]

    curves = [
        Series("", steps, values("low"), faint=True, dashed=True, colour=1),
        Series("", steps, values("high"), faint=True, dashed=True, colour=1),
        Series("", steps, values("value"), dots=True, colour=1),
    ]
    return line_chart(curves, title=f"{name}, {metric}", x_label="step", y_label=metric, width=HALF, height=270)


def _row(name: str, metric: str, points: Points) -> list[Cell]:
    step, score = points[-1]
    numbers = [score["value"], score["low"], score["high"]]
    return [name, score["convention"], metric, step, *numbers, score["n"], score["unit"]]
