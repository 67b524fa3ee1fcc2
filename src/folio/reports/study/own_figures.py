"""The figures that a study file asks for: what is refused before training, and what stands on the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from folio.errors import ConfigError, nearest
from folio.reports.page import Page
from folio.reports.study.own_frame import Frame
from folio.reports.study.own_panels import dot_panels, mean_panels
from folio.studies.findings.numbers import OF_CELL
from folio.studies.findings.results import Results, missing_words, words_of
from folio.studies.findings.statistics import Group
from folio.studies.grid.asked import FigureTable
from folio.studies.grid.spec import Study


class Placed(Protocol):
    """A cell, planned or trained."""

    @property
    def values(self) -> Mapping[str, Any]: ...


def refuse_figures(study: Study, cells: Sequence[Placed]) -> None:
    """:class:`ConfigError` for a figure over an axis that no cell has, or with one axis in two places.

    What is drawn to the right may be a number of the cells instead. One with a point in its name may be a score, and
    that there is none shows only when all is measured.
    """
    axes = list(dict.fromkeys(axis for cell in cells for axis in cell.values))
    for figure in study.figures:
        asked = {role: axis for role in ("x", "lines", "panels") if (axis := getattr(figure, role)) is not None}
        for role, axis in asked.items():
            known = [*axes, *OF_CELL] if role == "x" else axes
            if axis not in known and not (role == "x" and "." in axis):
                guess = nearest(axis, known)
                remedy = f"Did you mean {guess}?" if guess else f"Axes are: {', '.join(axes)}."
                raise ConfigError(f"figure '{figure.title}': {role} is '{axis}', which no cell has", remedy)
        roles = list(asked)
        for place, role in enumerate(roles):
            if other := next((one for one in roles[:place] if asked[one] == asked[role]), None):
                problem = f"figure '{figure.title}': '{asked[role]}' is both {other} and {role}"
                raise ConfigError(problem, "Leave it to one of them.")


def show_own_figures(page: Page, results: Results, groups: Sequence[Group]) -> dict[str, str]:
    """A section of the study's own figures, none where it asks for none; a note in place of one that shows nothing.

    Every panel by the name of its file, SVG each.
    """
    shown: dict[str, str] = {}
    if results.study.figures:
        page.section("Figures")
    for number, figure in enumerate(results.study.figures, 1):
        frame = Frame(figure, results, groups)
        panels = dot_panels(frame) if figure.kind == "dots" else mean_panels(frame)
        if panels:
            page.figures(*panels, caption=f"{figure.title.rstrip('.')}. {_caption(frame, panels)}")
        else:
            why = _why(figure, results)
            page.note(f"Figure '{figure.title}' shows nothing: {why}{'' if why.endswith('?') else '.'}")
        shown |= {f"{_name(number, figure)}-{panel}": svg for panel, svg in enumerate(panels, 1)}
    return shown


def _name(number: int, figure: FigureTable) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", figure.title.lower())[:48].strip("-")
    return f"own-{number}-{words or 'figure'}"


def _why(figure: FigureTable, results: Results) -> str:
    known = list(dict.fromkeys(key for cell in results.finished for key in cell.numbers))
    axes = {axis for cell in results.cells for axis in cell.values}
    for name in (figure.measure, figure.x):
        if known and name not in (*known, *axes):
            return missing_words(name, known)
    return f"no finished cell has {words_of(figure.measure)} and {words_of(figure.x)}"


def _caption(frame: Frame, panels: Sequence[str]) -> str:
    level = " Dashed: the text that really follows." if frame.level else ""
    if frame.figure.kind == "dots":
        through = any('class="middle"' in panel for panel in panels)
        medians = "; lines go through the medians of those that share a place" if through else ""
        return f"A dot is a cell, that is one seed{medians}.{level}"
    others = frame.averaged()
    over = f" and over {' and '.join(map(words_of, others))}" if others else ""
    best = f" Of {' and '.join(map(words_of, frame.tuned))} each has its best." if frame.tuned else ""
    return f"Means over seeds{over}; bands are 95 % intervals, Student's t over seeds.{best}{level}"
