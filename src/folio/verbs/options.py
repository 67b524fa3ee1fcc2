"""A verb's options from its arguments.

Flags are read by the table's own keys and validated as files are, so that a mistake has the same words in both and all
of them come at once. tyro draws the help page from the same table.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_origin

from pydantic.fields import FieldInfo

from folio.config import Table, TableT, build, config_error, deep_merge, leaves, read_recipe, unknown_key, validated


def parse(cls: type[TableT], args: Sequence[str], *, default: Table | None = None) -> TableT:
    """``args`` as a ``cls``, over the values of ``default``; :class:`folio.errors.ConfigError` lists every mistake.

    Flags are ``--table.key VALUE`` or ``--table.key=VALUE``, with ``-`` or ``_`` in names. A yes-or-no key is
    ``--key`` or ``--no-key``; a key that holds several takes all values up to the next flag,
    and may be given again for more.
    """
    keys = dict(leaves(cls))
    given, loose, mistakes = read_flags(keys, args)
    given |= place_loose(keys, loose, mistakes)
    data = default.model_dump(exclude_unset=True) if default is not None else {}
    table, more = validated(cls, deep_merge(data, nested(given)), {key: spelling(key, keys) for key in keys})
    if table is None or mistakes:
        raise config_error([*mistakes, *more])
    return table


def over_recipe(cls: type[Table], key: str = "recipe") -> Callable[[Sequence[str]], Table | None]:
    """For an action's ``default``: the preset or file that the first positional argument names.

    ``key`` is the positional field of ``cls`` that holds the name; the other fields of ``cls`` are the recipe's tables.
    """

    def default(args: Sequence[str]) -> Table | None:
        _, loose, _ = read_flags(dict(leaves(cls)), args)
        if not loose:
            return None
        return build(cls, {**read_recipe(loose[0]), key: loose[0]}, source=f"'{loose[0]}'")

    return default


def read_flags(keys: Mapping[str, FieldInfo], args: Sequence[str]) -> tuple[dict[str, Any], list[str], list[str]]:
    """The strings given to each dotted key, the arguments without a flag, and the mistakes, a line each."""
    given: dict[str, Any] = {}
    mistakes: list[str] = []
    loose: list[str] = []
    rest = list(args)
    while rest:
        token = rest.pop(0)
        if token == "--":
            loose += rest
            break
        if not token.startswith("--"):
            loose.append(token)
            continue
        name, equals, value = token.removeprefix("--").partition("=")
        key, answer = named_key(name, keys)
        if key is None:
            mistakes.append(unknown_key(name.replace("-", "_"), flagged(keys), lambda name: spelling(name, keys)))
            values_up_to_flag(rest)
        elif is_switch(keys[key]):
            given[key] = value if equals else answer
        elif equals:
            given[key] = [*given.get(key, []), value] if holds_several(keys[key]) else value
        elif holds_several(keys[key]):
            given[key] = [*given.get(key, []), *values_up_to_flag(rest)]
        elif rest and not rest[0].startswith("--"):
            given[key] = rest.pop(0)
        else:
            mistakes.append(f"--{name} needs a value")
    return given, loose, mistakes


def named_key(name: str, keys: Mapping[str, FieldInfo]) -> tuple[str | None, bool]:
    """The key that a flag's name means, and the answer it gives if it is a yes-or-no key (``--table.no-key``: no).

    The name of a table alone means its path: ``--data FILE`` is ``--data.path FILE``.
    """
    name = name.replace("-", "_")
    if name not in keys and f"{name}.path" in keys:
        name = f"{name}.path"
    table, dot, last = name.rpartition(".")
    yes = table + dot + last.removeprefix("no_")
    if name in keys and not is_positional(keys[name]):
        return name, True
    return (yes, False) if yes != name and yes in keys and is_switch(keys[yes]) else (None, True)


def values_up_to_flag(rest: list[str]) -> list[str]:
    values = []
    while rest and not rest[0].startswith("--"):
        values.append(rest.pop(0))
    return values


def place_loose(keys: Mapping[str, FieldInfo], loose: list[str], mistakes: list[str]) -> dict[str, Any]:
    """Arguments without a flag, given to the positional keys in order."""
    given: dict[str, Any] = {}
    for key, info in keys.items():
        if is_positional(info) and loose:
            given[key] = [loose.pop(0) for _ in range(len(loose))] if holds_several(info) else loose.pop(0)
    mistakes += [f"unexpected argument '{token}'" for token in loose]
    return given


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """``{"a.b": 1}`` as ``{"a": {"b": 1}}``."""
    data: dict[str, Any] = {}
    for key, value in flat.items():
        branch: Any = value
        for part in reversed(key.split(".")):
            branch = {part: branch}
        data = deep_merge(data, branch)
    return data


def spelling(key: str, keys: Mapping[str, FieldInfo]) -> str:
    """How the command line names a key: ``--train.batch-tokens``, or ``RECIPE`` for one without a flag."""
    return key.upper() if key in keys and is_positional(keys[key]) else "--" + key.replace("_", "-")


def flagged(keys: Mapping[str, FieldInfo]) -> list[str]:
    return [key for key, info in keys.items() if not is_positional(info)]


def is_positional(info: FieldInfo) -> bool:
    return any(repr(mark) == "Positional" for mark in info.metadata)  # tyro.conf.Positional, without importing tyro


def is_switch(info: FieldInfo) -> bool:
    return info.annotation is bool


def holds_several(info: FieldInfo) -> bool:
    return get_origin(info.annotation) in (tuple, list, set, frozenset)


def print_help(
    cls: type[Table], prog: str, description: str, examples: Iterable[str] = (), default: Table | None = None
) -> None:
    """Print the ``--help`` page: tyro's view of the table, with the sentence under each key, then the examples.

    With ``default``, what stands in the page as the value of each key is its value there.
    """
    import tyro

    with contextlib.suppress(SystemExit):
        tyro.cli(
            cls,
            args=["--help"],
            prog=prog,
            description=description,
            default=default,
            config=(tyro.conf.PositionalMetavarFromFieldName, tyro.conf.AvoidSubcommands),
        )
    for index, example in enumerate(examples):
        print(f"  {example}" if index else f"examples:\n  {example}")
