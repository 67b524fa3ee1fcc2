"""What a record holds at the places that a description names: its texts and its endings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from folio.evaluation.tasks.description import Description, Paths
from folio.evaluation.tasks.records import Record

SENTENCE_END = re.compile(r"(.*[.!?][\"'”’)\]]*)\s+(\S.*)", re.DOTALL)
"""All up to the last sentence's end, and what follows it."""


class Unfit(Exception):
    """The record is not what the description says; ``missing`` if a field is not there at all."""

    def __init__(self, problem: str, remedy: str = "", *, missing: bool = False) -> None:
        super().__init__(problem)
        self.problem, self.remedy, self.missing = problem, remedy, missing


def texts_of(description: Description, record: Record) -> tuple[dict[str, str], bool]:
    """The texts of a record by field, and whether some were recovered from another."""
    texts = {}
    lost = []
    for name, paths in description.fields.items():
        found = first_at(record, paths)
        if found is None and description.recover and name in description.recover.into:
            lost.append(name)
        else:
            texts[name] = text_of(name if found is not None else in_words(paths), found)
    if lost and description.recover:
        texts |= zip(description.recover.into, cut_after_last_sentence(texts[description.recover.field]), strict=True)
    return texts, bool(lost)


def cut_after_last_sentence(text: str) -> tuple[str, str]:
    """What stands before and after the last sentence's end; all before, if what follows is not in lower case."""
    match = SENTENCE_END.fullmatch(text)
    if match is None or not match[2][0].islower():
        return text, ""
    return match[1], match[2]


def endings_of(description: Description, record: Record) -> tuple[str, ...]:
    for place in description.endings:
        found = value_at(record, place) if isinstance(place, str) else [value_at(record, path) for path in place]
        if isinstance(found, list) and None not in found:
            return tuple(text_of("an ending", ending) for ending in found)
        if found is not None and isinstance(place, str):
            raise Unfit(f"'{place}' is {type(found).__name__}, not a list of endings")
    raise Unfit(f"there is no {in_words(description.endings)}", missing=True)


def text_of(name: str, found: object) -> str:
    if found is None:
        raise Unfit(f"there is no {name}", missing=True)
    if not isinstance(found, str):
        raise Unfit(f"{name} is {type(found).__name__}, not text")
    try:
        found.encode("utf-8")
    except UnicodeEncodeError:
        raise Unfit(f"{name} holds half a surrogate pair, which is no text") from None
    return found


def first_at(record: Record, paths: Paths) -> Any:
    return next((found for path in paths if (found := value_at(record, path)) is not None), None)


def value_at(value: Any, path: str) -> Any:
    """What stands at a dotted path, None if nothing does; after ``[]`` it is the list of what each element has."""
    if not path:
        return value
    head, _, rest = path.partition(".")
    found = value.get(head.removesuffix("[]")) if isinstance(value, Mapping) else None
    if head.endswith("[]"):
        return [value_at(one, rest) for one in found] if isinstance(found, list) else None
    return value_at(found, rest)


def in_words(places: Sequence[str | tuple[str, ...]]) -> str:
    return " or ".join(f"'{place}'" if isinstance(place, str) else f"'{' and '.join(place)}'" for place in places)
