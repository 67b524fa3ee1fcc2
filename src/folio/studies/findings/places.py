"""Where a cell stands on the axes, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from folio.studies.findings.results import words_of
from folio.studies.grid.axes import GRID, value_text


def place_words(values: Mapping[str, Any], axes: Sequence[str]) -> str:
    """``width 64, start warm``; of several grids the name first, ``words, width 64``. What it lacks is left out."""
    has = {axis: values[axis] for axis in axes if values.get(axis) is not None}
    name = [value_text(has.pop(GRID))] if GRID in has else []
    return ", ".join(name + [f"{words_of(axis)} {value_text(value)}" for axis, value in has.items()])


def value_words(values: Mapping[str, Any], axis: str) -> str:
    """What a cell's value on one axis is called beside others: ``width 64``, or its grid's name where it has none."""
    return place_words(values, [axis]) or value_text(values.get(GRID))


def grids_told(values: Sequence[Mapping[str, Any]], axis: str) -> bool:
    """Whether :func:`value_words` of this axis says as well which grid a cell is of, which then need not be told."""
    of_grid: dict[str, set[str]] = {}
    for one in values:
        of_grid.setdefault(value_words(one, axis), set()).add(repr(one.get(GRID)))
    return all(len(grids) == 1 for grids in of_grid.values())
