"""What a figure that a study asks for is drawn of: which cell stands where, and what its line and panel are called."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any

from folio.reports.study.charts import Level
from folio.studies.findings.places import grids_told, place_words, value_words
from folio.studies.findings.results import Results
from folio.studies.findings.statistics import Group, tuned_groups
from folio.studies.grid.asked import FigureTable
from folio.studies.grid.axes import GRID, value_text

REAL = "real text"


@dataclass(frozen=True)
class Spot:
    """One place of a figure: ``groups`` are the combinations of axes that are not shown."""

    panel: str | None
    """None: of cells that do not have the axis of the panels."""
    line: str
    x: Any
    groups: list[Group] = field(default_factory=list)


@dataclass(frozen=True)
class Frame:
    """A figure with what it is drawn of."""

    figure: FigureTable
    results: Results
    groups: Sequence[Group]

    @property
    def tuned(self) -> list[str]:
        """Tuned axes that the figure does not show: of each the best is drawn, by what is compared above all."""
        shown = (self.figure.x, self.figure.lines, self.figure.panels)
        return [axis for axis in self.results.study.tuned if axis not in shown]

    @cached_property
    def by_axis(self) -> bool:
        """Whether what is drawn to the right is an axis, and no number of the cells."""
        return any(self.figure.x in cell.values for cell in self.results.cells)

    @cached_property
    def level(self) -> Level | None:
        """What the text that really follows has of the measure."""
        value = self.results.reference.get(self.figure.measure, math.nan)
        return (REAL, value) if math.isfinite(value) else None

    def panel_of(self, values: Mapping[str, Any]) -> str | None:
        axis = self.figure.panels
        return "" if axis is None else place_words(values, [axis]) or None

    def line_of(self, values: Mapping[str, Any]) -> str:
        """What the line of a cell is called; its grid is told where nothing else tells it."""
        axis, several = self.figure.lines, GRID in self.results.axes
        if axis is None or axis == GRID:
            return value_text(values[GRID]) if several else ""
        if self.panel_of(values) is None or (several and not self._told(axis)):
            return place_words(values, [GRID, axis])
        return value_words(values, axis)

    def _told(self, axis: str) -> bool:
        values = [cell.values for cell in self.results.cells if not self.by_axis or self.figure.x in cell.values]
        return grids_told(values, axis) or (self.figure.panels is not None and grids_told(values, self.figure.panels))

    @cached_property
    def spots(self) -> list[Spot]:
        """The places of a figure of means, in the study's order; of combinations of which nothing is finished, too."""
        results, measure = self.results, self.results.measure
        groups = tuned_groups(self.groups, self.tuned, measure, results.lower_is_better(measure))
        found: dict[tuple[str | None, str, str], Spot] = {}
        for group in groups:
            if not group.cells and not self.by_axis:
                continue
            values = {**next((cell.values for cell in group.cells.values()), {}), **group.values}
            numbers = [cell.score(self.figure.x) for cell in group.cells.values()]
            x = values.get(self.figure.x) if self.by_axis else fmean(numbers)
            if x is None or (isinstance(x, float) and math.isnan(x)):
                continue
            panel, line = self.panel_of(values), self.line_of(values)
            found.setdefault((panel, line, repr(x)), Spot(panel, line, x)).groups.append(group)
        return list(found.values())

    def averaged(self) -> list[str]:
        """Axes that the figure does not show, over which its means are, too."""
        return [
            axis
            for axis in self.results.axes
            if any(len({repr(group.values[axis]) for group in spot.groups}) > 1 for spot in self.spots)
        ]
