"""The one value that walks from a file to the shards."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its name. ``id`` tells it from the others of its corpus, ``source`` says which file it came from."""

    id: str
    text: str
    source: str
