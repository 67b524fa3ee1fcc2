"""Where in a text its words stand, for the few that are asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable

from folio.corpus.ngrams import words_of

BLOCK_CHARACTERS = 4096
_SPACE = re.compile(r"\s")
_PIECE = re.compile(r"[^\s.,;:!?。，、]+")
"""What lies between white space and marks that no word, and no character of one, reaches across."""


def word_places(text: str, words: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Of some ``words`` of ``text``, by their numbers in :func:`~folio.corpus.ngrams.words_of`, where each begins and
    ends, to the nearest white space, full stop, comma or the like."""
    wanted = sorted(set(words), reverse=True)
    places: dict[int, tuple[int, int]] = {}
    at = before = 0
    while wanted and at < len(text):
        space = _SPACE.search(text, at + BLOCK_CHARACTERS)
        stop = space.start() if space is not None else len(text)
        inside = before + len(words_of(text[at:stop]))
        if wanted[-1] < inside:
            for piece in _PIECE.finditer(text, at, stop):
                before += len(words_of(piece[0]))
                while wanted and wanted[-1] < before:
                    places[wanted.pop()] = piece.span()
        at, before = stop, inside
    return places
