"""A study's contrasts as figures: how far apart the sides are at the end, and step by step."""

from __future__ import annotations

import re

from folio.reports.charts import HALF, WIDE
from folio.reports.intervals import Interval, interval_chart
from folio.reports.study.answer_tables import place_of_contrast
from folio.reports.study.axes import is_far
from folio.reports.study.charts import Line, Place, band_chart
from folio.reports.study.tables import p_text
from folio.studies.findings.answers import Answer, Contrast
from folio.studies.findings.results import words_of
from folio.studies.findings.statistics import Comparison
from folio.studies.grid.axes import value_text

COLOURS = {"better": 2, "worse": 1, "cannot tell": 7}
TRAINING = "-while-training"
"""In the names of figures that are followed step by step."""


def answer_figures(answer: Answer, stem: str) -> dict[str, str]:
    """SVG by name: differences at the end for each measure, and while training over all and by each axis."""
    axis, reference = words_of(answer.table.axis), value_text(answer.table.reference)
    figures = {}
    for measure in answer.measures:
        ends = [(one, one.ends[measure]) for one in answer.contrasts if measure in one.ends]
        rows = [_interval(one, end) for one, end in ends]
        if rows:
            figures[_file(f"{stem}-{measure}")] = interval_chart(
                rows,
                title=f"{axis}: {words_of(measure)} against {reference}",
                x_label=f"difference in {words_of(measure)}, other minus {reference}",
                reference=0.0,
            )
    panels: dict[str, list[Line]] = {}
    others = list(dict.fromkeys(repr(one.other) for one in answer.contrasts))
    for one in answer.contrasts:
        if one.lead is not None:
            found = zip(one.lead.steps, one.lead.differences, strict=True)
            places = [Place(step, end.value, end.low, end.high) for step, end in found]
            line = Line(value_text(one.other), places, others.index(repr(one.other)))
            panels.setdefault(place_of_contrast(one), []).append(line)
    for place, lines in panels.items():
        where = "" if place == "all" else f"-{place}"
        figures[_file(f"{stem}{TRAINING}{where}")] = band_chart(
            lines,
            title=f"{axis} while training: {place}",
            x_label="step",
            y_label=f"difference in {words_of(answer.loss)}",
            log_x=is_far([at.x for line in lines for at in line.places]),
            level=(reference, 0.0),
            width=WIDE if len(panels) == 1 else HALF,
        )
    return figures


def _interval(one: Contrast, end: Comparison) -> Interval:
    note = end.verdict + (f", p {text}" if (text := p_text(end.adjusted)) else "")
    label = f"{value_text(one.other)}: {place_of_contrast(one)}"
    return Interval(label, end.estimate.value, end.estimate.low, end.estimate.high, note, COLOURS[end.verdict])


def _file(name: str) -> str:
    return re.sub(r"[^\w+-]+", "-", name)
