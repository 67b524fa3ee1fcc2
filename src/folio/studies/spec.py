"""A study file: what it may hold, and its tables in order, whatever way they were written in TOML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from folio.config import Table, build, deep_merge, named_file, read_recipe, read_toml, recipe_path
from folio.errors import ConfigError, nearest

WHOLE = "whole"
"""The scale of a study as its file has it, without an overlay."""


class Condition(Table):
    """What holds for some of the cells alone."""

    when: str
    """An expression over axes, seed and keys of the recipe, such as 'width > 128 and learning_rate > 0.01'."""
    leave_out: bool = False
    """Leave such cells out."""
    keep_only: bool = False
    """Leave all other cells out."""
    set: dict[str, Any] = {}
    """Keys of the recipe that have other values in such cells."""
    because: str = ""
    """Why, for the reader."""

    @model_validator(mode="after")
    def _does_one_thing(self) -> Self:
        if self.leave_out + self.keep_only + bool(self.set) != 1:
            raise ValueError("a condition has one of leave_out = true, keep_only = true, or set = { key = value }")
        return self


class GridTable(Table):
    """One grid: all combinations of its axes and variants, but for what conditions leave out."""

    base: str | None = None
    """A preset's name, or a TOML file beside the study file."""
    recipe: dict[str, Any] = {}
    """Keys that every cell has, over those of the base."""
    axes: dict[str, Any] = {}
    """Values by key, "model.n_embd" = [64, 128], or by a name: width = { key = "model.n_embd", values = [64, 128] }.
    A named axis without a key is for expressions alone."""
    variants: dict[str, dict[str, dict[str, Any]]] = {}
    """Groups of keys that change together, by name: [variants.optimizer.muon] and [variants.optimizer.adamw]."""
    derived: dict[str, Any] = {}
    """Keys that are computed for each cell: "model.n_head" = "width / 64"."""
    conditions: tuple[Condition, ...] = ()
    """What holds for some of the cells alone, in order."""


class StudyTable(GridTable):
    """A study: one grid, or several that share what stands beside them."""

    name: str = ""
    """What its folder is called. Empty: the file's name."""
    title: str = ""
    """The title of its page."""
    question: str = ""
    """What is to be found out; stands on the page above the answer."""
    seeds: int | tuple[int, ...] = 1
    """Which seeds (train.seed) each combination is trained with, or how many: from the recipe's own on."""
    grids: dict[str, GridTable] = {}
    """Several grids by name, each over what the study itself says."""
    measures: tuple[str, ...] = ("nats_per_token", "bits_per_byte")
    """What is compared, the first above all: nats_per_token, bits_per_byte, perplexity, seconds, or any score that
    [recipe.evaluation] asks for, such as hellaswag.completion.acc_norm."""
    scores_at: Literal["best", "last"] = "best"
    """The moment of a run whose scores count: the best validation, or the last step."""
    tuned: tuple[str, ...] = ()
    """Axes that are no question of their own, such as a learning rate: comparisons take the best of each."""
    equal_cells: Literal["refuse", "merge"] = "refuse"
    """Two cells that would be the same run: a mistake, or trained once and shown as both."""
    scales: dict[str, dict[str, Any]] = {}
    """Smaller (or larger) forms of the study by name: what stands there replaces what stands above."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if isinstance(self.seeds, tuple):
            if not self.seeds:
                raise ValueError("seeds are empty: give at least one, or how many")
            if twice := next((one for one in self.seeds if self.seeds.count(one) > 1), None):
                raise ValueError(f"seed {twice} is given twice")
        if min(self.seeds if isinstance(self.seeds, tuple) else (self.seeds - 1,)) < 0:
            raise ValueError("a seed is below 0" if isinstance(self.seeds, tuple) else "seeds must be 1 or more")
        if not self.measures:
            raise ValueError("measures are empty: name at least one, such as nats_per_token")
        return self


class Study(StudyTable):
    """A study at one scale, nothing left to be read: bases are in the recipes, keys are dotted."""

    scale: str = WHOLE
    """Which of its scales this is."""

    def grid_tables(self) -> dict[str, GridTable]:
        """Each grid by name, with what the study says for all; a study without grids is one without a name."""
        shared = self.model_dump(include=set(GridTable.model_fields), exclude_unset=True)
        if not self.grids:
            return {"": GridTable.model_validate(shared)}
        own = {name: grid.model_dump(exclude_unset=True) for name, grid in self.grids.items()}
        return {
            name: GridTable.model_validate(
                {**deep_merge(shared, grid), "conditions": [*shared.get("conditions", ()), *grid.get("conditions", ())]}
            )
            for name, grid in own.items()
        }


def shipped_folder() -> Path:
    """Where the studies lie that come with Folio: inside an installed package, or ``studies/`` of a checkout."""
    installed = Path(__file__).parent / "shipped"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "studies"


def study_paths() -> dict[str, Path]:
    """Every shipped study by name."""
    return {path.stem: path for path in sorted(shipped_folder().glob("*.toml"))}


def study_path(given: str) -> Path:
    """The file that a shipped study's name or a path means; :class:`ConfigError` with the nearest name."""
    otherwise = "Give a TOML file, or the folder of a study that was begun."
    return named_file(given, study_paths(), ("study", "Studies"), otherwise)


def read_study(given: str, scale: str = WHOLE) -> Study:
    """The study of a shipped name or a TOML file, at one ``scale``; :class:`ConfigError` lists every mistake."""
    path = study_path(given)
    data = read_toml(path)
    scales = data.pop("scales", {})
    source = f"'{path}'"
    if not isinstance(scales, Mapping) or not all(isinstance(one, Mapping) for one in scales.values()):
        raise ConfigError(f"{source}: scales must be tables", "Write [scales.small] and what differs there.")
    if scale != WHOLE and scale not in scales:
        guess = nearest(scale, [*scales, WHOLE])
        remedy = f"Did you mean {guess}?" if guess else f"There are: {', '.join([*scales, WHOLE])}."
        raise ConfigError(f"{source} has no scale '{scale}'", remedy)
    layers = [data] if scale == WHOLE else [data, scales[scale]]
    build(StudyTable, {**data, "scales": scales}, source=source)  # what the overlay hides is looked at, too
    merged: dict[str, Any] = {}
    for layer in layers:
        ordered = _in_order(layer, path.parent)
        _keep_named_axes(merged, ordered)
        for name, grid in ordered.get("grids", {}).items():
            _keep_named_axes(merged.get("grids", {}).get(name, {}), grid)
        merged = deep_merge(merged, ordered)
    return build(Study, {"name": path.stem, **merged, "scale": scale}, source=source)


def _in_order(layer: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """A layer of a study file with dotted keys, and its bases read."""
    ordered = _grid_in_order(layer, home)
    if isinstance(grids := layer.get("grids"), Mapping):
        ordered["grids"] = {
            name: _grid_in_order(grid, home) if isinstance(grid, Mapping) else grid for name, grid in grids.items()
        }
    return ordered


def _grid_in_order(table: Mapping[str, Any], home: Path) -> dict[str, Any]:
    ordered = dict(table)
    for part in ("recipe", "axes", "derived"):
        if isinstance(table.get(part), Mapping):
            ordered[part] = dotted(table[part], whole=is_axis if part == "axes" else None)
    variants = table.get("variants")
    if isinstance(variants, Mapping):
        ordered["variants"] = {
            axis: {name: dotted(keys) if isinstance(keys, Mapping) else keys for name, keys in group.items()}
            if isinstance(group, Mapping)
            else group
            for axis, group in variants.items()
        }
    if isinstance(table.get("conditions"), list):
        ordered["conditions"] = [
            {**one, "set": dotted(one["set"])}
            if isinstance(one, Mapping) and isinstance(one.get("set"), Mapping)
            else one
            for one in table["conditions"]
        ]
    if isinstance(base := ordered.pop("base", None), str):
        ordered["recipe"] = {**dotted(read_recipe(_beside(base, home))), **ordered.get("recipe", {})}
    return ordered


def _keep_named_axes(below: Mapping[str, Any], above: Mapping[str, Any]) -> None:
    """An overlay's ``width = [32, 64]`` over an axis with a name and a key gives it other values alone."""
    for name, values in list(above.get("axes", {}).items()):
        if isinstance(below.get("axes", {}).get(name), Mapping) and isinstance(values, list):
            above["axes"][name] = {"values": values}


def _beside(base: str, home: Path) -> str:
    """A path as the study file means it; a preset's name as it is."""
    path = recipe_path(base)
    return base if path.is_absolute() or not base.endswith(".toml") else str(home / path)


def is_axis(value: Mapping[str, Any]) -> bool:
    """Whether a table under ``axes`` is an axis, and not part of a dotted key."""
    return "values" in value


def dotted(tables: Mapping[str, Any], prefix: str = "", whole: Any = None) -> dict[str, Any]:
    """Tables in each other as one level of dotted keys; those for which ``whole`` holds stay as they are."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping) and not (whole is not None and whole(value)):
            flat |= dotted(value, f"{prefix}{key}.", whole)
        else:
            flat[f"{prefix}{key}"] = value
    return flat
