"""The axes of a grid: what is varied, and what each value sets in a recipe."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from folio.config import unknown_key
from folio.errors import ConfigError, nearest
from folio.studies.grid.spec import GridTable

SEED = "seed"
SEED_KEY = "train.seed"
GRID = "grid"
RESERVED = (SEED, GRID, "cell", "true", "false", "none", "and", "or", "not", "if", "else", "in")


@dataclass(frozen=True)
class Point:
    """One value of an axis, or the name of a variant, and the keys of the recipe that it sets."""

    value: Any
    settings: Mapping[str, Any]

    @property
    def label(self) -> str:
        return value_text(self.value)


@dataclass(frozen=True)
class Axis:
    """What is varied under one ``name``; ``key`` is the recipe's, None for variants and for what only expressions use.

    Variants are ``named``: their values are words.
    """

    name: str
    key: str | None
    points: tuple[Point, ...]
    named: bool = False

    @property
    def keys(self) -> set[str]:
        """The keys of the recipe that it sets."""
        return {key for point in self.points for key in point.settings}


def value_text(value: Any) -> str:
    """A value as a table or a folder's name has it: 0.003, 64, true, a+b."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "+".join(map(value_text, value)) or "none"
    return str(value)


def check_keys(keys: Iterable[str], known: Collection[str], where: str) -> None:
    """:class:`ConfigError` for a key that no recipe has, with the nearest that it has."""
    for key in keys:
        if key not in known:
            raise ConfigError(f"{where}: {unknown_key(key, list(known))}", "Keys are those of folio train.")


def axes_of(grid: GridTable, known: Collection[str]) -> list[Axis]:
    """The axes of a grid in the file's order, variants last; ``known`` are the recipe's dotted keys.

    :class:`ConfigError` for an unknown key, an axis without values, a value given twice, two axes for one key.
    """
    plain = {key: value for key, value in grid.axes.items() if not isinstance(value, Mapping)}
    short = _short_names(plain, [*(key for key in grid.axes if key not in plain), *grid.variants])
    axes = [
        _of_key(short[name], name, value, known) if name in plain else _of_name(name, value, known)
        for name, value in grid.axes.items()
    ]
    axes += [_of_variants(name, group, known) for name, group in grid.variants.items()]
    taken: dict[str, str] = {}
    for axis in axes:
        if axis.name in RESERVED or not axis.name.replace(".", "_").isidentifier():
            raise ConfigError(f"an axis cannot be called '{axis.name}'", "Use letters, digits and _.")
        for key in axis.keys:
            if key == SEED_KEY:
                raise ConfigError(f"axis {axis.name} sets {SEED_KEY}", "Seeds are given by seeds = [1, 2, 3].")
            if key in taken:
                raise ConfigError(f"axes {taken[key]} and {axis.name} both set {key}", "Leave it to one of them.")
            taken[key] = axis.name
    return axes


def _short_names(keys: Collection[str], others: Collection[str]) -> dict[str, str]:
    """The last word of each key, or all of it where that is somebody's name already."""
    last = {key: key.rpartition(".")[2] for key in keys}
    names = [*last.values(), *others]
    return {key: word if names.count(word) == 1 and word not in RESERVED else key for key, word in last.items()}


def _of_key(name: str, key: str, values: Any, known: Collection[str]) -> Axis:
    check_keys([key], known, "axes")
    return Axis(name, key, tuple(Point(value, {key: value}) for value in _checked(name, values)))


def _of_name(name: str, table: Mapping[str, Any], known: Collection[str]) -> Axis:
    if unknown := [key for key in table if key not in ("key", "values")]:
        guess = nearest(unknown[0], ("key", "values"))
        raise ConfigError(f"axis {name} has an unknown key {unknown[0]}", f"Did you mean {guess or 'key, values'}?")
    key = table.get("key")
    if key is not None:
        check_keys([str(key)], known, f"axis {name}")
    values = _checked(name, table["values"])
    return Axis(name, key, tuple(Point(value, {} if key is None else {key: value}) for value in values))


def _of_variants(name: str, group: Mapping[str, Mapping[str, Any]], known: Collection[str]) -> Axis:
    if not group:
        raise ConfigError(f"variants.{name} is empty", f"Write [variants.{name}.FIRST] and what it sets.")
    for variant, settings in group.items():
        check_keys(settings, known, f"variants.{name}.{variant}")
    return Axis(name, None, tuple(Point(variant, settings) for variant, settings in group.items()), named=True)


def _checked(name: str, values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise ConfigError(f"axis {name} is {values!r}, not a list", "Write its values as [a, b, c].")
    if not values:
        raise ConfigError(f"axis {name} has no values, so the grid is empty", "Give it one, or leave the axis out.")
    for index, value in enumerate(values):
        if any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values[:index]):
            raise ConfigError(f"axis {name} has the value {value_text(value)} twice", "Leave one out.")
        if isinstance(value, Mapping):
            raise ConfigError(f"axis {name} has a table for a value", f"Use [variants.{name}.NAME] for groups of keys.")
    return values
