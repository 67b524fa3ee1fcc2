"""The learning rates of a study: a search by ``folio lr`` for each family of cells, and what it finds they use."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Any

from folio.artifacts import write_file
from folio.config import build
from folio.errors import ConfigError, Interrupted, UserError, nearest
from folio.studies.grid.axes import axes_of, value_text
from folio.studies.grid.cells import Cell, content_hash
from folio.studies.grid.spec import Study
from folio.studies.running.records import StudyFolder
from folio.verbs.action import Terminal
from folio.verbs.lr.asked import RateQuestion
from folio.verbs.lr.plan import MUON_RATE, RATE
from folio.verbs.options import nested
from folio.verbs.recipe import Recipe
from folio.verbs.study.opening import Planned, recipe_keys, recipe_of, recipe_text

LONGEST_NAME = 80


@dataclass(frozen=True)
class Family:
    """Cells that share a learning rate: their ``places`` in the plan, and the recipe that is searched for all."""

    axes: tuple[str, ...]
    values: Mapping[str, Any]
    places: tuple[int, ...]
    recipe: Recipe
    cell: Cell
    """Whose recipe that is: the one that was searched before, else that in the middle of those with the first seed."""

    @property
    def words(self) -> str:
        named = ", ".join(f"{axis} {value_text(value)}" for axis, value in self.values.items())
        return named or (f"those without {' and '.join(self.axes)}" if self.axes else "all cells")


def rate_question(study: Study) -> RateQuestion:
    """How closely each family's rate is looked for; :class:`ConfigError` lists what cannot be asked."""
    assert study.rates is not None
    return build(RateQuestion, nested(study.rates.search), source="rates.search")


def families_of(study: Study, planned: Planned, before: Collection[str] = ()) -> list[Family]:
    """The families in the study's order; :class:`ConfigError` for an axis that no cell has, or rates that vary."""
    assert study.rates is not None
    _refuse_varied(study)
    axes = list(dict.fromkeys(name for cell, _ in planned for name in cell.values))
    for name in study.rates.for_each:
        if name not in axes:
            guess = nearest(name, axes)
            remedy = f"Did you mean {guess}?" if guess else f"There are: {', '.join(axes) or 'none'}."
            raise ConfigError(f"rates.for_each names '{name}', which is no axis", remedy)
    found: dict[str, list[int]] = {}
    for place, (cell, _) in enumerate(planned):
        found.setdefault(repr([cell.values.get(axis) for axis in study.rates.for_each]), []).append(place)
    return [_family(study.rates.for_each, places, planned, before) for places in found.values()]


def _refuse_varied(study: Study) -> None:
    """:class:`ConfigError` for an axis of learning rates: its values would be overwritten by what is found."""
    for grid in study.grid_tables().values():
        for axis in axes_of(grid, recipe_keys()):
            if axis.key in (RATE, MUON_RATE):
                raise ConfigError(f"rates finds {RATE}, and axis {axis.name} varies it", "Leave one of them out.")


def _family(axes: Sequence[str], places: Sequence[int], planned: Planned, before: Collection[str]) -> Family:
    """Its cell is one that was searched ``before``, by its words, so that a family that grows keeps its rate."""
    first, recipe = planned[places[0]]
    for place in places[1:]:
        cell, other = planned[place]
        if other.train.optimizer.kind != recipe.train.optimizer.kind:
            raise ConfigError(
                f"one learning rate is to be found for ({first.words}) and ({cell.words}), which have other optimizers",
                "Name the axis of the optimizer in rates.for_each.",
            )
    alike = [place for place in places if planned[place][0].seed == first.seed]
    known = [place for place in places if planned[place][0].words in before]
    cell, recipe = planned[known[0] if known else alike[len(alike) // 2]]
    values = {axis: cell.values[axis] for axis in axes if axis in cell.values}
    return Family(tuple(axes), values, tuple(places), recipe, cell)


def with_found_rates(
    study: Study, planned: Planned, folder: StudyFolder, terminal: Terminal
) -> tuple[Planned, list[dict[str, Any]]]:
    """The cells with the rates that were found for them, and of each search what ``study.json`` says of it.

    What is finished in ``folder`` is not searched again. :class:`Interrupted` if asked to stop, :class:`UserError`
    where a search finds none.
    """
    if study.rates is None:
        return planned, []
    before = [str(one["searched"]) for one in folder.found_rates()]
    asked, families = rate_question(study), families_of(study, planned, before)
    cells, told = list(planned), []
    for number, family in enumerate(families, 1):
        terminal.print(f"rate {number}/{len(families)}   {family.words}")
        rates, facts = _searched(family, asked, folder, terminal)
        terminal.print(f"           {rates[RATE]:g}, by {facts['steps']:,} steps in {facts['seconds']:.0f} s")
        told.append(facts)
        release_memory()
        for place in family.places:
            cell = replace(cells[place][0], settings={**cells[place][0].settings, **rates})
            cells[place] = (cell, recipe_of(cell))
    return cells, told


def _searched(
    family: Family, asked: RateQuestion, folder: StudyFolder, terminal: Terminal
) -> tuple[Mapping[str, float], dict[str, Any]]:
    from folio.verbs.lr.finding import suggested_rate
    from folio.verbs.lr.folder import recipe_tables
    from folio.verbs.lr.told import write_answer
    from folio.verbs.prepare import prepare

    prepared = prepare(family.recipe, Terminal(quiet=True))
    content = [recipe_tables(family.recipe), asked.model_dump(mode="json"), prepared.shards.manifest.id]
    readable = re.sub(r"[^\w.=+-]+", "-", "_".join(f"{axis}={value_text(v)}" for axis, v in family.values.items()))
    name = f"{readable[:LONGEST_NAME] or 'all'}_{content_hash(content)}"
    home, preset = folder.rates(name), folder.rates(f"{name}.toml")
    write_file(
        preset, recipe_text(family.recipe, f"The learning rate of {family.words}, by the cell {family.cell.words}")
    )
    try:
        found = suggested_rate(family.recipe, asked, home, terminal, preset=str(preset), prepared=prepared)
    except Interrupted as error:
        first = str(error).splitlines()[0]
        raise Interrupted(f"{first}\n       Go on with: folio study run {quote(str(folder.path))}") from None
    page = write_answer(found, family.recipe, str(preset), home)
    if found.rate is None:
        raise UserError(
            f"no learning rate was found for {family.words}: {found.why}",
            f"Look at the curve in {page}, and widen rates.search (low, high, steps).",
        )
    facts = {
        "family": dict(family.values),
        "cells": len(family.places),
        "searched": family.cell.words,
        "rates": dict(found.rates),
        "why": found.why,
        "notes": list(found.notes),
        "steps": found.cost.steps,
        "seconds": found.cost.seconds,
        "share": found.cost.share,
        "folder": home.name,
    }
    return found.rates, facts


def release_memory() -> None:
    """Give back to the device what this process has used of it: the cells need it."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
