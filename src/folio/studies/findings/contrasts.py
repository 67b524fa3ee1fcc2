"""Tables of contrasts: which values of an axis are held against which, and what cannot be asked of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from folio.errors import ConfigError, nearest
from folio.studies.findings.statistics import agree
from folio.studies.grid.asked import ContrastTable
from folio.studies.grid.axes import value_text
from folio.studies.grid.cells import Cell
from folio.studies.grid.spec import Study

Place = Mapping[str, Any]
"""The values of a cell by axis."""


def refuse_contrasts(study: Study, cells: Sequence[Cell]) -> None:
    """:class:`ConfigError` for a contrast that these cells can never answer, with the nearest name."""
    places = [cell.values for cell in cells]
    seen: set[tuple[str, str, str]] = set()
    for table in study.contrasts:
        _refuse_unknown(table, places, study.tuned)
        for other in others_of(table, places, study.tuned):
            asked = (table.axis, repr(table.reference), repr(other))
            if asked in seen:
                words = f"{value_text(other)} against {value_text(table.reference)}"
                raise ConfigError(f"two contrasts of {table.axis} are the same: {words}", "Put all of by in one table.")
            seen.add(asked)


def others_of(table: ContrastTable, places: Sequence[Place], tuned: Sequence[str]) -> list[Any]:
    """What the reference is compared with: the ``others`` of the table, or all that share a place with it."""
    if table.others:
        return [value for value in table.others if any(same(value, one) for one in values_of(table.axis, places))]
    there = [value for value in values_of(table.axis, places) if not same(value, table.reference)]
    return [value for value in there if _share_a_place(table, value, places, tuned)]


def values_of(axis: str, places: Sequence[Place]) -> list[Any]:
    """The values of an axis: numbers by size, others as they come; of cells that do not have the axis, none."""
    found = list({repr(place[axis]): place[axis] for place in places if place.get(axis) is not None}.values())
    return sorted(found) if all(is_number(value) for value in found) else found


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(one: Any, other: Any) -> bool:
    """Whether two values of an axis are the same: 1 and 1.0 are, 1 and true are not."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _refuse_unknown(table: ContrastTable, places: Sequence[Place], tuned: Sequence[str]) -> None:
    axes = list(dict.fromkeys(axis for place in places for axis in place))
    for axis in (table.axis, *table.by):
        if axis not in axes:
            raise ConfigError(f"a contrast names the axis '{axis}', which no cell has", _guess(axis, axes))
        if axis in tuned:
            raise ConfigError(
                f"a contrast names the axis '{axis}', which is tuned", "Take it out of tuned, or out of the contrast."
            )
    where = f"the contrast of {table.axis}"
    if table.axis in table.by:
        raise ConfigError(f"{where} is told apart by {table.axis} itself", "Leave it out of by.")
    if twice := next((one for one in table.by if table.by.count(one) > 1), None):
        raise ConfigError(f"{where} names {twice} twice in by", "Leave one out.")
    there = values_of(table.axis, places)
    for value in (table.reference, *table.others):
        if not any(same(value, one) for one in there):
            remedy = _guess(value_text(value), [value_text(one) for one in there])
            raise ConfigError(f"{where} names {value_text(value)}, which is no value of it", remedy)
    for number, value in enumerate(table.others):
        if any(same(value, one) for one in (table.reference, *table.others[:number])):
            raise ConfigError(f"{where} names {value_text(value)} twice", "Leave one out.")
        if not _share_a_place(table, value, places, tuned):
            raise ConfigError(
                f"{where}: no cell with {value_text(value)} is equal to one with {value_text(table.reference)} in all "
                "other axes",
                "Such cells cannot be paired: give both the same values elsewhere.",
            )
    if not others_of(table, places, tuned):
        raise ConfigError(
            f"{where}: no cell is equal to one with {value_text(table.reference)} in all other axes",
            "Such cells cannot be paired: choose another reference, or leave the contrast out.",
        )


def _share_a_place(table: ContrastTable, other: Any, places: Sequence[Place], tuned: Sequence[str]) -> bool:
    """Whether two cells differ in the axis alone; see :func:`folio.studies.findings.statistics.paired`."""
    having = [place for place in places if place.get(table.axis) is not None]
    sides = [
        {repr(place): place for place in having if same(place[table.axis], value)} for value in (table.reference, other)
    ]
    ignored = (table.axis, *tuned)
    return any(agree(one, another, ignored) for one in sides[0].values() for another in sides[1].values())


def _guess(name: str, there: Sequence[str]) -> str:
    guess = nearest(name, there)
    return f"Did you mean {guess}?" if guess else f"There are: {', '.join(there)}."
