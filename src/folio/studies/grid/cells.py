"""The cells of a study: every combination that its grids hold, each with each seed, as tables of a recipe."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from folio.errors import ConfigError
from folio.studies.grid.axes import GRID, SEED, SEED_KEY, Point, axes_of, check_keys, value_text
from folio.studies.grid.expression import Expression, read_expression
from folio.studies.grid.spec import GridTable, Study

LONGEST_NAME = 96
DIGITS = 10
"""Of the hash at the end of a cell's name."""


@dataclass(frozen=True)
class Cell:
    """One run of a study: its place on the axes, its seed, and the dotted keys that its recipe has."""

    values: Mapping[str, Any]
    seed: int
    settings: Mapping[str, Any]

    @property
    def words(self) -> str:
        """``n_embd 64, learning_rate 0.003, seed 1337``."""
        return ", ".join(f"{name} {value_text(value)}" for name, value in [*self.values.items(), (SEED, self.seed)])

    def name(self, content: Any) -> str:
        """What its folder is called: readable, and equal for equal ``content`` (JSON) alone."""
        parts = [f"{name}={value_text(value)}" for name, value in [*self.values.items(), (SEED, self.seed)]]
        readable = re.sub(r"[^\w.=+-]+", "-", ",".join(parts).replace(",", "_"))[:LONGEST_NAME].strip("-.")
        return f"{readable}_{content_hash(content)}"


def content_hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def cells_of(study: Study, known: Collection[str], defaults: Mapping[str, Any]) -> list[Cell]:
    """Every cell in the order of the file, seeds innermost. ``defaults`` are the values of a recipe's ``known`` keys.

    :class:`ConfigError` for whatever cannot be understood, and for a study of which nothing is left.
    """
    cells: list[Cell] = []
    for name, grid in study.grid_tables().items():
        try:
            cells += _Grid(name, grid, known, defaults).cells(study.seeds)
        except ConfigError as error:
            if name:
                raise ConfigError(f"grid {name}: {error.problem}", error.remedy) from None
            raise
    if not cells:
        raise ConfigError("the conditions leave no cell at all", "Leave one of them out, or widen an axis.")
    if len(cells) == 1:
        raise ConfigError("the study varies nothing: it has one cell", "Give it an axis with two values, or two seeds.")
    names = {name for cell in cells for name in cell.values}
    for tuned in study.tuned:
        if tuned not in names:
            raise ConfigError(f"tuned names '{tuned}', which is no axis", f"There are: {', '.join(sorted(names))}.")
    return cells


class _Grid:
    """One grid, its expressions read."""

    def __init__(self, name: str, grid: GridTable, known: Collection[str], defaults: Mapping[str, Any]) -> None:
        self.name, self.grid = name, grid
        self.base = {**defaults, **grid.recipe}
        check_keys(grid.recipe, known, "recipe")
        self.axes = axes_of(grid, known)
        names = {*known, SEED, *(axis.name for axis in self.axes)}
        self.conditions: list[tuple[Expression, Any]] = []
        varied: dict[str, str] = {key: f"axis {axis.name}" for axis in self.axes for key in axis.keys}
        for condition in grid.conditions:
            check_keys(condition.set, known, f"the condition '{condition.when}'")
            self._refuse_varied(condition.set, varied, f"the condition '{condition.when}'")
            self.conditions.append((read_expression(condition.when, names), condition))
        check_keys(grid.derived, known, "derived")
        self._refuse_varied(grid.derived, varied, "derived")
        self.derived = {
            key: read_expression(text, names) if isinstance(text, str) else text for key, text in grid.derived.items()
        }

    @staticmethod
    def _refuse_varied(keys: Collection[str], varied: Mapping[str, str], where: str) -> None:
        for key in keys:
            if key in varied or key == SEED_KEY:
                who = varied.get(key, "seeds")
                raise ConfigError(f"{where} sets {key}, which {who} sets already", "Leave it to one of them.")

    def cells(self, seeds: int | tuple[int, ...]) -> list[Cell]:
        if isinstance(seeds, int):
            first = int(self.base[SEED_KEY])
            seeds = tuple(range(first, first + seeds))
        combinations = product(*(axis.points for axis in self.axes))
        cells = [self._cell(points, seed) for points in combinations for seed in seeds]
        return [cell for cell in cells if cell is not None]

    def _cell(self, points: Sequence[Point], seed: int) -> Cell | None:
        """None for one that is left out."""
        own: dict[str, Any] = {GRID: self.name} if self.name else {}
        own |= {axis.name: point.value for axis, point in zip(self.axes, points, strict=True)}
        settings = {**self.grid.recipe, SEED_KEY: seed}
        for point in points:
            settings |= point.settings
        cell = Cell(own, seed, settings)
        for expression, condition in self.conditions:
            holds = expression.holds(self._names(own, seed, settings), cell.words)
            if condition.leave_out == holds and not condition.set:
                return None
            if holds:
                settings |= condition.set
        for key, derived in self.derived.items():
            of_expression = isinstance(derived, Expression)
            settings[key] = derived.value(self._names(own, seed, settings), cell.words) if of_expression else derived
        return cell

    def _names(self, own: Mapping[str, Any], seed: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What an expression may look up; an axis before a key of the same name."""
        return {**self.base, **settings, SEED: seed, **own}


def distinct(cells: Sequence[Cell], content_of: Callable[[Cell], Any], merge: bool) -> list[tuple[list[Cell], Any]]:
    """The cells by content, in order; more than one of a content where ``merge`` allows it.

    :class:`ConfigError` naming both otherwise: a table would show one run as two results.
    """
    found: dict[str, tuple[list[Cell], Any]] = {}
    for cell in cells:
        content = content_of(cell)
        members, _ = found.setdefault(content_hash(content), ([], content))
        if members and not merge:
            raise ConfigError(
                f"two cells are the same run: ({members[0].words}) and ({cell.words})",
                'Leave one out by a condition, or train it once for both: equal_cells = "merge".',
            )
        members.append(cell)
    return list(found.values())
