"""Configuration machinery: TOML and flags in, frozen tables out, every mistake named at once.

Each room owns its :class:`Table`; nothing here knows any of them. TOML has no null: in a file and on the command line
the word ``none`` empties a key that may be empty.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from folio.errors import ConfigError, nearest


class Table(BaseModel):
    """One table of a configuration: frozen, every key known, a sentence under each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


TableT = TypeVar("TableT", bound=Table)


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; :class:`ConfigError` names the file and the line where it is not TOML."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"'{path}' is not UTF-8 text (byte {error.start:,})", "Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        match = re.fullmatch(r"(.*?) \(at (?:line (\d+), column \d+|end of document)\)", str(error), re.DOTALL)
        reason, line = match.groups() if match else (str(error), None)
        place = f"'{path}', line {line}" if line else f"'{path}', at its end"
        raise ConfigError(f"{place}: {reason[:1].lower()}{reason[1:]}", "Mend the line; it is not TOML.") from None
    except OSError as error:
        raise ConfigError(f"cannot read '{path}': {error.strerror}", "Check the path.") from None


def preset_folder() -> Path:
    """Where the presets lie: inside an installed package, or ``configs/`` of a checkout."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent.parent / "configs"


def preset_paths() -> dict[str, Path]:
    """Every preset by name."""
    return {path.stem: path for path in sorted(preset_folder().glob("*.toml"))}


def read_recipe(given: str) -> dict[str, Any]:
    """The tables of a preset's name or of a TOML file's path; a misspelt preset is answered with the nearest name."""
    return read_toml(recipe_path(given))


def recipe_path(given: str) -> Path:
    """The file that a preset's name or a path means. A name without ``.toml`` or a slash is a preset."""
    return named_file(given, preset_paths(), ("preset", "Presets"), "Give a preset or the path of a TOML file.")


def named_file(given: str, shipped: Mapping[str, Path], called: tuple[str, str], otherwise: str) -> Path:
    """The file that the name of one of those ``shipped`` means, or a path: what ends in ``.toml`` or has a slash.

    ``called`` is what one of them is, and several; ``otherwise`` the remedy for a name that is like none of them.
    """
    if given.endswith(".toml") or "/" in given or "\\" in given:
        return Path(given)
    if given in shipped:
        return shipped[given]
    guess = nearest(given, shipped)
    remedy = f"Did you mean {guess}?" if guess else otherwise
    raise ConfigError(f"there is no {called[0]} '{given}'", f"{remedy} {called[1]}: {', '.join(shipped)}.")


def deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the keys of ``over`` in their place; tables are merged, other values replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = deep_merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def build(cls: type[TableT], data: Mapping[str, Any], *, source: str = "") -> TableT:
    """``data`` as a validated ``cls``; :class:`ConfigError` lists every mistake, after the ``source`` it came from."""
    table, mistakes = validated(cls, data)
    if table is None:
        raise config_error(mistakes, source)
    return table


def validated(
    cls: type[TableT], data: Mapping[str, Any], flags: Mapping[str, str] | None = None
) -> tuple[TableT | None, list[str]]:
    """``data`` as a ``cls``, or None and the mistakes, a line each. ``flags`` maps dotted keys to the names to show."""
    try:
        return cls.model_validate(_emptied(cls, data)), []
    except ValidationError as error:
        faults = [dict(fault) for fault in error.errors(include_url=False)]
        return None, list(dict.fromkeys(_mistake(cls, fault, flags) for fault in faults))


def config_error(mistakes: Sequence[str], source: str = "") -> ConfigError:
    """One :class:`ConfigError` for any number of mistakes."""
    start = f"{source}: " if source else ""
    if len(mistakes) == 1:
        return ConfigError(start + mistakes[0])
    return ConfigError(f"{start}{len(mistakes)} mistakes", "\n       ".join(mistakes))


def subtable(info: FieldInfo) -> type[Table] | None:
    """The table that a field holds (also one that may be empty), or None for a plain value."""
    for kind in (info.annotation, *get_args(info.annotation)):
        if isinstance(kind, type) and issubclass(kind, Table):
            return kind
    return None


def leaves(cls: type[Table], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every plain value of a table and of the tables in it, by dotted key, in order."""
    for name, info in cls.model_fields.items():
        inner = subtable(info)
        if inner is None:
            yield prefix + name, info
        else:
            yield from leaves(inner, f"{prefix}{name}.")


def may_be_empty(info: FieldInfo) -> bool:
    return NoneType in get_args(info.annotation)


def _emptied(cls: type[Table], data: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` with None for the word ``none`` wherever a key may be empty."""
    result = dict(data)
    for name, info in cls.model_fields.items():
        value, inner = result.get(name), subtable(info)
        if isinstance(value, str) and value.lower() == "none" and may_be_empty(info):
            result[name] = None
        elif inner is not None and isinstance(value, Mapping):
            result[name] = _emptied(inner, value)
    return result


def _mistake(cls: type[Table], fault: Mapping[str, Any], flags: Mapping[str, str] | None) -> str:
    """One of pydantic's errors as a line: the key, what was given, what is allowed.

    pydantic complains once for each kind of value that a key may hold; here each of those gives the same line.
    """
    table: type[Table] | None = cls
    parts: list[str] = []
    info: FieldInfo | None = None
    named = [str(part) for part in fault["loc"] if not isinstance(part, int)]  # not which of several tables
    for part in named:
        if table is None or part not in table.model_fields:
            break
        parts.append(part)
        info = table.model_fields[part]
        table = subtable(info)
    key, kind, value = ".".join(parts), fault["type"], fault["input"]
    if kind == "extra_forbidden":
        return unknown_key(".".join(named), [*cls.model_fields, *(name for name, _ in leaves(cls))])
    message = str(fault["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    message = message.partition(", unable to")[0]
    if kind == "value_error" and table is not None:
        return f"{key}: {message}" if key else message
    name = flags.get(key, key) if flags else key
    if kind == "missing":
        return f"{name} is required"
    if kind == "model_type":
        message = "must be a table"
    kinds = _kinds(info.annotation) if info is not None and table is None else []
    if len(kinds) > 1:
        allowed = [words for one in kinds for words in _allowed(one)]
        message = f"must be {', '.join(allowed[:-1])}, or {allowed[-1]}"
        words = [word for one in kinds if get_origin(one) is Literal for word in map(str, get_args(one))]
        if guess := nearest(str(value), words):
            message += f"; did you mean '{guess}'?"
    elif kind == "literal_error" and (guess := nearest(str(value), re.findall("'([^']*)'", fault["ctx"]["expected"]))):
        message += f"; did you mean '{guess}'?"
    return f"{name}{' ' if name.startswith('--') else ' = '}{_short(value)}: {message}"


_PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_BOUNDS = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}


def _kinds(annotation: Any) -> list[Any]:
    """The kinds of value that a key may hold besides being empty."""
    either = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return [kind for kind in either if kind is not NoneType]


def _allowed(kind: Any) -> list[str]:
    """What one kind of value may be, in words: "a whole number of at least 1", or each word of a literal."""
    if get_origin(kind) is Literal:
        return list(map(repr, get_args(kind)))
    plain, *marks = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    limits = [limit for mark in marks for limit in getattr(mark, "metadata", [mark])]
    bounds = [f"{word} {getattr(limit, at)}" for limit in limits for at, word in _BOUNDS.items() if hasattr(limit, at)]
    return [" ".join([_PLAIN.get(plain, str(getattr(plain, "__name__", plain))), " and ".join(bounds)]).rstrip()]


VERY_LIKE = 0.75
"""A likeness by difflib (``seed`` and ``seeds``, ``axis`` and ``axes``) that is no chance in one table."""


def unknown_key(key: str, known: Sequence[str], spell: Callable[[str], str] = str) -> str:
    """``key`` is unknown, and the known key most like it.

    That is one very like it in the same table, else the same word in another table, else the nearest.
    """
    table, _, last = key.rpartition(".")
    beside = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == table}
    if (like := nearest(last, beside, least=VERY_LIKE)) is not None:
        guess: str | None = beside[like]
    else:
        guess = next((name for name in known if name.rpartition(".")[2] == last), None) or nearest(key, known)
    return f"unknown key {spell(key)}" + (f"; did you mean {spell(guess)}?" if guess else "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def to_toml(table: Table) -> str:
    """A resolved configuration as TOML that :func:`build` reads back to an equal table."""
    return "\n\n".join(_toml_blocks(table, "")) + "\n"


def _toml_blocks(table: Table, name: str) -> Iterator[str]:
    values = table.model_dump(mode="json")
    lines = [f"[{name}]"] if name else []
    inner: list[tuple[str, Table]] = []
    for key, info in type(table).model_fields.items():
        value = getattr(table, key)
        if isinstance(value, Table):
            inner.append((key, value))
        elif value is not None:
            lines.append(f"{key} = {_toml_value(values[key])}")
        elif info.is_required() or info.get_default(call_default_factory=True, validated_data={}) is not None:
            lines.append(f'{key} = "none"')
    if len(lines) > bool(name) or (name and not inner):
        yield "\n".join(lines)
    for key, value in inner:
        yield from _toml_blocks(value, f"{name}.{key}" if name else key)


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{_toml_value(key)} = {_toml_value(item)}" for key, item in value.items() if item is not None)
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)
