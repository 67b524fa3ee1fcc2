"""The figure of range tests: loss against learning rate, and the rates that it suggests."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from folio.reports.charts import Series, line_chart
from folio.training.rate_curve import TOO_FAR_NATS, Spread, Sweep, rate_text, suggest_over


def sweep_figure(sweeps: Mapping[int, Sweep], unit: str, found: Spread | None = None) -> str:
    """A smoothed curve for each seed, over the losses of the batches if there is but one, and uprights. SVG."""
    found = suggest_over(sweeps) if found is None else found
    alone = len(sweeps) == 1
    curves, heights, lowest = [], list[float](), list[float]()
    for colour, (seed, sweep) in enumerate(sweeps.items()):
        losses, smoothed = sweep.compared(), found.each[seed].smoothed
        top = float(losses.min()) + 2 * TOO_FAR_NATS if len(losses) else math.nan
        seen = np.where(losses <= top, losses, math.nan).tolist()
        place = 0 if alone else colour + 2
        curves.append(Series("each batch" if alone else "", sweep.rates, seen, faint=True, colour=place))
        curves.append(Series("smoothed" if alone else f"seed {seed}", sweep.rates, smoothed, colour=place))
        heights += [value for value in (*seen, *smoothed) if math.isfinite(value)]
        lowest.append(found.each[seed].lowest_at)
    if heights and found.rate is not None:
        ends = [min(heights), max(heights)]
        uprights = [("suggested", found.rate, 1)]
        uprights += [("lowest", lowest[0], 2)] if alone else []
        for label, rate, colour in uprights:
            curves.append(Series(f"{label} {rate_text(rate)}", [rate, rate], ends, dashed=True, colour=colour))
            ends = [ends[0], ends[0] + 0.9 * (ends[1] - ends[0])]
    return line_chart(
        curves, title="Range test", x_label="learning rate", y_label=f"training, nats per {unit}", log_x=True
    )


def sweep_caption(sweeps: Mapping[int, Sweep]) -> str:
    """How the figure's curves came about, and which of them ended early."""
    words = (
        "The loss of each batch is taken relative to that of the untouched model on the same batch; the smoothed curve "
        "is a centred mean."
    )
    for seed, sweep in sweeps.items():
        if sweep.ended:
            which = "The sweep" if len(sweeps) == 1 else f"That of seed {seed}"
            words += f" {which} ended early: {sweep.ended}."
    return words
