"""Axes of a study as axes of a figure: which one its lines are, where values stand, what they are called."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from folio.studies.findings.places import grids_told, value_words
from folio.studies.findings.statistics import Group
from folio.studies.grid.axes import GRID

MOST_LINES = 8
"""More cannot be told apart by their colours."""
RATIO_FOR_LOG = 4


def line_axis(groups: Sequence[Group], others: Sequence[str]) -> str | None:
    """The axis whose values are the lines of a panel: one of words if there is one, else that with the fewest.

    The grid is none where another says as much.
    """
    values = [group.values for group in groups]
    counts = {name: len(distinct(value_words(one, name) for one in values)) for name in others}
    fitting = [name for name in others if 1 < counts[name] <= MOST_LINES]
    worded = [name for name in fitting if any(isinstance(one[name], str) for one in values)]
    if any(name != GRID and grids_told(values, name) for name in worded):
        worded = [name for name in worded if name != GRID]
    return min(worded or fitting, key=lambda name: counts[name], default=None)


def is_numeric(values: Sequence[Any]) -> bool:
    """Whether the values of an axis are numbers."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def is_far(values: Sequence[float]) -> bool:
    """Whether values are so far apart that a logarithmic axis shows them better."""
    usable = [value for value in values if math.isfinite(value)]
    return bool(usable) and min(usable) > 0 and max(usable) >= RATIO_FOR_LOG * min(usable)


def place_of(values: Sequence[Any]) -> dict[str, float]:
    """Where each value (by its ``repr``) stands on the axis: a number where it is, words one after another."""
    numeric = is_numeric(values)
    return {repr(value): float(value) if numeric else float(index) for index, value in enumerate(values)}


def distinct(values: Iterable[Any]) -> list[Any]:
    """Each value once, in order."""
    return list({repr(value): value for value in values}.values())
