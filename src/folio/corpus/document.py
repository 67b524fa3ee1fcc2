"""The one value that walks from a file to the shards."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its name. ``id`` tells it from the others of its corpus, ``source`` says which file it came from.

    ``place`` is its number in a source that is read part by part, rising in the order of the parts; -1 elsewhere.
    """

    id: str
    text: str
    source: str
    place: int = field(default=-1, compare=False)
