"""A study file: which one a name means, and its tables in order, whatever way they were written in TOML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from folio.config import build, deep_merge, named_file, read_recipe, read_toml, recipe_path
from folio.errors import ConfigError, nearest
from folio.studies.grid.spec import WHOLE, Study, StudyTable


def shipped_folder() -> Path:
    """Where the studies lie that come with Folio: inside an installed package, or ``studies/`` of a checkout."""
    installed = Path(__file__).parents[1] / "shipped"
    return installed if installed.is_dir() else Path(__file__).parents[4] / "studies"


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
        _keep_one_oracle(merged, ordered)
        merged = deep_merge(merged, ordered)
    return build(Study, {"name": path.stem, **merged, "scale": scale}, source=source)


def _in_order(layer: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """A layer of a study file with dotted keys, and its bases read."""
    ordered = _grid_in_order(layer, home)
    if isinstance(grids := layer.get("grids"), Mapping):
        ordered["grids"] = {
            name: _grid_in_order(grid, home) if isinstance(grid, Mapping) else grid for name, grid in grids.items()
        }
    if isinstance(oracle := layer.get("oracle"), Mapping):
        ordered["oracle"] = _recipe_in_order(oracle, home)
    if isinstance(rates := layer.get("rates"), Mapping) and isinstance(rates.get("search"), Mapping):
        ordered["rates"] = {**rates, "search": dotted(rates["search"])}
    return ordered


def _recipe_in_order(table: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """A table with dotted keys in its recipe, over those of its base."""
    ordered = dict(table)
    if isinstance(table.get("recipe"), Mapping):
        ordered["recipe"] = dotted(table["recipe"])
    if isinstance(base := ordered.pop("base", None), str):
        ordered["recipe"] = {**dotted(read_recipe(_beside(base, home))), **ordered.get("recipe", {})}
    return ordered


def _grid_in_order(table: Mapping[str, Any], home: Path) -> dict[str, Any]:
    ordered = _recipe_in_order(table, home)
    for part in ("axes", "derived"):
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
    return ordered


def _keep_one_oracle(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """An overlay that trains an oracle sets aside the one that is there, and the other way round."""
    if isinstance(before := below.get("oracle"), Mapping) and isinstance(now := above.get("oracle"), Mapping):
        other = "model" if "recipe" in now else "recipe" if "model" in now else ""
        below["oracle"] = {key: value for key, value in before.items() if key != other}


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
