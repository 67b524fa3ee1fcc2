"""The training figures on a page: of one run, or of several over each other."""

from __future__ import annotations

from collections.abc import Sequence

from folio.reports.charts import HALF, WIDE, Series, line_chart
from folio.reports.drawing import LIGHT_PALETTE
from folio.reports.figures import Curve, TrainingFigure, measured_figures, training_figures
from folio.reports.page import Page
from folio.reports.records import RunRecord

FIRST = "train-against-validation"
"""What the name of the figure begins with that has the width of the page."""


def show_curves(page: Page, names: Sequence[str], records: Sequence[RunRecord]) -> None:
    """A section with every figure that these runs have numbers for; none if there is no such figure."""
    figures = training_figures(names, records)
    if len(records) > 1:
        figures += measured_figures(names, records)
    if not figures:
        return
    page.section("Curves")
    for figure in figures:
        if figure.name.startswith(FIRST):
            page.figures(figure_svg(figure, width=WIDE, height=360), caption=figure.caption)
    halves = [figure for figure in figures if not figure.name.startswith(FIRST)]
    page.figures(*(figure_svg(figure, width=HALF, height=270) for figure in halves), caption=_captions(halves))


def figure_svg(figure: TrainingFigure, *, width: int, height: int) -> str:
    """One figure as inline SVG; beyond eight runs dashes tell those of one colour apart."""
    return line_chart(
        [_series(curve, named=bool(figure.labels)) for curve in figure.curves if curve.has_values],
        title=figure.title,
        x_label=figure.x_label,
        y_label=figure.y_label,
        log_y=figure.log_y,
        width=width,
        height=height,
    )


def _series(curve: Curve, *, named: bool) -> Series:
    label = curve.label if named or curve.quiet else ""
    dashed = curve.dashed or curve.number // len(LIGHT_PALETTE) % 2 == 1
    return Series(
        label, curve.xs, curve.ys, curve.faint, curve.dots, dashed, curve.number, labelled=named and not curve.quiet
    )


def _captions(figures: Sequence[TrainingFigure]) -> str:
    """What is said under several figures, each thing once."""
    smoothed = next((figure.caption for figure in figures if figure.caption), "")
    return f"Smoothed is {smoothed[0].lower()}{smoothed[1:]}" if smoothed else ""
