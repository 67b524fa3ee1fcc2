"""The fields of a record, checked: texts and conversations, and :class:`DataError`, with file and line, for others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from folio.errors import DataError, nearest

ROLES = ("system", "user", "assistant")


def messages_of(given: object, where: str, name: str = "messages") -> tuple[dict[str, str], ...]:
    """A conversation, each turn with role and content. Fields of a turn that are null (as parquet has them) go."""
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise DataError(f"{where}: '{name}' is not a list of turns", "Give a list of objects with role and content.")
    turns = []
    for number, turn in enumerate(given, 1):
        at = f"{where}, turn {number}"
        if not isinstance(turn, Mapping) or "role" not in turn:
            raise DataError(f"{at} has no role", "Give each turn a role and a content.")
        role = turn["role"]
        if role not in ROLES:
            guess = nearest(str(role), ROLES)
            raise DataError(
                f"{at}: the role {role!r} is not known",
                f"{f'Did you mean {guess}? ' if guess else ''}Roles are {', '.join(ROLES)}.",
            )
        extra = [key for key, value in turn.items() if key not in ("role", "content") and value is not None]
        if extra:
            raise DataError(f"{at} has '{extra[0]}', which is not learned here", "Leave role and content alone.")
        turns.append({"role": role, "content": text_of(turn.get("content"), "content", at)})
    return tuple(turns)


def text_of(value: object, name: str, where: str, *, optional: bool = False) -> str:
    """The field ``name`` of a record as text; "" for null where it is ``optional``."""
    if value is None and optional:
        return ""
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        raise DataError(f"{where}: '{name}' is {kind}, not text", "Write it as text.")
    return surrogate_free(value, where)


def surrogate_free(text: str, where: str) -> str:
    """``text``, if it can be written as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{where} holds half a surrogate pair, which is no text", "Mend or remove it.") from None
    return text
