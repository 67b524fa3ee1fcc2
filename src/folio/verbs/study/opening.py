"""From a study to the jobs of its cells: recipes resolved, data made, names and costs known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from folio.config import Table, build, leaves
from folio.errors import ConfigError
from folio.studies.grid.cells import Cell, cells_of, content_hash, distinct
from folio.studies.grid.spec import SMALL, WHOLE, Study
from folio.studies.grid.study_file import read_study
from folio.studies.running.records import StudyFolder
from folio.verbs.action import Terminal
from folio.verbs.options import nested
from folio.verbs.prepare import prepare
from folio.verbs.recipe import Recipe, model_for_vocabulary

DATA = ("corpus", "source", "quality", "tokenizer")
"""Tables that say what the text and the ids are: what they amount to stands in a cell's name, not they themselves."""
READING = ("order", "order_bytes")
"""Keys of [shards] that decide what a run reads; the others say how."""
IDLE = ("track", "keep_last", "keep_every", "checkpoint_async", "rank_timeout_s")
"""Keys of [train] that change nothing in what comes out."""


Planned = Sequence[tuple[Cell, Recipe]]
"""Cells and the recipes that they come to."""


@dataclass(frozen=True)
class OpenedCell:
    """A run of a study: the cells that it stands for (several where equal ones were merged), and what it takes."""

    name: str
    cells: tuple[Cell, ...]
    recipe: Recipe
    parameters: int
    flops: float

    is_oracle: bool = False
    """It judges the others, and is no cell of the grid."""

    @property
    def words(self) -> str:
        return self.cells[0].words

    def facts(self) -> dict[str, Any]:
        """What ``study.json`` says of it."""
        return {
            "cells": [{"values": dict(cell.values), "seed": cell.seed} for cell in self.cells if not self.is_oracle],
            "steps": self.recipe.train.steps,
            "parameters": self.parameters,
            "training_flops": self.flops,
        }


def scale_of(scale: str, small: bool) -> str:
    """The scale that two flags mean; :class:`ConfigError` if they mean different ones."""
    if small and scale not in (WHOLE, SMALL):
        raise ConfigError(f"--small and --scale {scale} are two scales", "Give one of them.")
    return SMALL if small else scale


def study_and_folder(given: str, scale: str, out: Path | None) -> tuple[Study, StudyFolder]:
    """What a command means by STUDY: a shipped name, a TOML file, or the folder of a study that was begun."""
    if not given.endswith(".toml") and Path(given).is_dir():
        if out is not None:
            raise ConfigError(f"'{given}' is a study's own folder", "Leave --out out.")
        study, _ = StudyFolder(Path(given)).read()
        if scale not in (WHOLE, study.scale):
            raise ConfigError(f"'{given}' was begun at scale {study.scale}", "Leave --scale out.")
        return study, StudyFolder(Path(given))
    study = read_study(given, scale)
    suffix = "" if study.scale == WHOLE else f"-{study.scale}"
    return study, StudyFolder(out or Path("runs") / f"{study.name}{suffix}")


def recipe_keys() -> dict[str, Any]:
    """Every dotted key of a recipe, with its usual value."""
    usual = Recipe()
    return {key: _value_at(usual, key) for key, _ in leaves(Recipe)}


def _value_at(table: Table, key: str) -> Any:
    value: Any = table
    for part in key.split("."):
        value = getattr(value, part)
    return value


def recipe_of(cell: Cell) -> Recipe:
    """What a cell is trained by; :class:`ConfigError` lists what cannot be."""
    return build(Recipe, nested(cell.settings), source=f"cell ({cell.words})")


def planned_cells(study: Study) -> list[tuple[Cell, Recipe]]:
    """The cells with their recipes; :class:`ConfigError` for the first that cannot be, and how many more."""
    usual = recipe_keys()
    planned, wrong = [], list[ConfigError]()
    for cell in cells_of(study, usual, usual):
        try:
            planned.append((cell, recipe_of(cell)))
        except ConfigError as error:
            wrong.append(error)
    if wrong:
        more = f" (and {len(wrong) - 1} more cells)" if len(wrong) > 1 else ""
        raise ConfigError(f"{wrong[0].problem}{more}", wrong[0].remedy or "Leave such cells out by a condition.")
    distinct([cell for cell, _ in planned], _content_by_id(planned), study.equal_cells == "merge")
    return planned


def _content_by_id(planned: Planned) -> Callable[[Cell], Any]:
    """What tells cells apart before any text is read."""
    recipes = {id(cell): recipe for cell, recipe in planned}
    return lambda cell: _plain(recipes[id(cell)])


def open_cells(study: Study, grid: Planned, beside: Planned, terminal: Terminal) -> list[OpenedCell]:
    """The runs of a study in its order, what is trained ``beside`` the grid (an oracle) first.

    Each text is read, and each tokenizer and shards made, once, here. :class:`ConfigError` for cells that are the
    same run, unless the study merges them.
    """
    planned, oracles = [*beside, *grid], {id(cell) for cell, _ in beside}
    recipes = {id(cell): recipe for cell, recipe in planned}
    cells, merge = [cell for cell, _ in planned], study.equal_cells == "merge"
    data: dict[str, tuple[str, int]] = {}
    quiet = Terminal(quiet=True)
    kinds = [content_hash(_data_tables(recipe)) for _, recipe in planned]
    with terminal.progress("data", len(set(kinds)), "kind") as bar:
        for kind, (_, recipe) in zip(kinds, planned, strict=True):
            if kind not in data:
                prepared = prepare(recipe, quiet)
                data[kind] = (prepared.shards.manifest.id, prepared.tokenizer.vocab_size)
                bar.update(len(data))
    known = {id(cell): data[kind] for (cell, _), kind in zip(planned, kinds, strict=True)}

    def content(cell: Cell) -> dict[str, Any]:
        return content_of(recipes[id(cell)], known[id(cell)][0])

    return [
        _opened(members, found, recipes[id(members[0])], known[id(members[0])][1], id(members[0]) in oracles)
        for members, found in distinct(cells, content, merge)
    ]


def _opened(
    cells: Sequence[Cell], content: Mapping[str, Any], recipe: Recipe, vocab_size: int, is_oracle: bool
) -> OpenedCell:
    from folio.model.accounting import parameter_counts, training_flops
    from folio.verbs.embeddings import spared_flops

    shape = model_for_vocabulary(recipe.model, vocab_size)
    each = float(training_flops(shape) - spared_flops(recipe.embeddings, shape))
    flops = each * recipe.train.batch_tokens * recipe.train.steps
    return OpenedCell(cells[0].name(content), tuple(cells), recipe, parameter_counts(shape).total, flops, is_oracle)


def content_of(recipe: Recipe, shards: str) -> dict[str, Any]:
    """What a run's results depend on: its recipe, and the content of the ids that it reads in place of their origin."""
    plain = _plain(recipe)
    reading = {key: plain["shards"][key] for key in READING}
    kept = {name: table for name, table in plain.items() if name not in (*DATA, "shards")}
    train = {key: value for key, value in plain["train"].items() if key not in IDLE}
    return {**kept, "train": train, "shards": {"id": shards, **reading}}


def _plain(recipe: Recipe) -> dict[str, Any]:
    tables = recipe.model_dump(mode="json")
    if "vocab_size" not in recipe.model.model_fields_set:
        del tables["model"]["vocab_size"]  # the tokenizer's
    return tables


def _data_tables(recipe: Recipe) -> dict[str, Any]:
    plain = _plain(recipe)
    return {name: plain[name] for name in (*DATA, "shards")}


def recipe_text(recipe: Recipe, words: str) -> str:
    """A TOML file for ``folio train``, with every value, so that another Folio's defaults would change nothing."""
    from folio.config import to_toml

    text = to_toml(recipe)
    if "vocab_size" not in recipe.model.model_fields_set:
        text = text.replace(f"[model]\nvocab_size = {recipe.model.vocab_size}\n", "[model]\n", 1)
    return f"# {words}\n\n{text}"
