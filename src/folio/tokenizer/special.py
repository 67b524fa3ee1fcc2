"""Added tokens: whole strings with an id of their own, found in text before anything else is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from folio.errors import ArtifactError

Splits = Callable[[str], Iterator[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class AddedToken:
    """One entry of ``added_tokens``. ``special`` ones are text unless allowed; the others are always recognised."""

    content: str
    id: int
    special: bool
    strips_left: bool = False
    strips_right: bool = False


def added_tokens(spec: dict[str, Any]) -> tuple[AddedToken, ...]:
    """The added tokens of a ``tokenizer.json``, as listed there."""
    tokens = []
    for entry in spec.get("added_tokens") or ():
        if entry.get("single_word"):
            raise ArtifactError(
                f"this tokenizer's added token '{entry['content']}' is to match whole words only, which Folio does not",
                "Use another tokenizer.",
            )
        tokens.append(
            AddedToken(
                entry["content"],
                entry["id"],
                bool(entry.get("special")),
                bool(entry.get("lstrip")),
                bool(entry.get("rstrip")),
            )
        )
    return tuple(tokens)


def splitter(tokens: Iterable[AddedToken]) -> Splits | None:
    """A function that cuts text at ``tokens`` into (plain text before, token), the last token empty; None without any.

    Where two begin at one place the longer wins.
    """
    ordered = sorted(tokens, key=lambda token: -len(token.content))
    if not ordered:
        return None
    expression = re.compile("|".join(map(_alternative, ordered)))

    def split(text: str) -> Iterator[tuple[str, str]]:
        start = 0
        for match in expression.finditer(text):
            yield text[start : match.start()], match[match.lastindex or 0]
            start = match.end()
        yield text[start:], ""

    return split


def _alternative(token: AddedToken) -> str:
    before = r"\s*" if token.strips_left else ""
    after = r"\s*" if token.strips_right else ""
    return f"{before}({re.escape(token.content)}){after}"
