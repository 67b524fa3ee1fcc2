"""Items of benchmarks in documents: word n-grams that both have, and what becomes of such documents.

The rule is that of GPT-3 (Brown et al. 2020, appendix C), with the words of :func:`~folio.corpus.ngrams.words_of`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from folio.corpus.ngram_screen import NgramScreen
from folio.corpus.ngrams import Ints, NgramIndex
from folio.corpus.quality.config import ContaminationConfig
from folio.corpus.quality.verdict import Change, Fault, Verdict
from folio.corpus.word_places import word_places
from folio.errors import DataError

RULES = 1
"""Counts up whenever the same items and settings come to judge a text otherwise."""
AROUND_CHARACTERS = 200
LEAST_PIECE_CHARACTERS = 200
MOST_PIECES = 10
WHOLE_WORD_CHARACTERS = 100
"""A cut is moved outward to white space that is no farther."""
_SHOWN_ITEMS = 3
_SPACE = re.compile(r"\s")

Items = Mapping[str, Sequence[str]]
"""Texts by an item's id: a question with each of its answers, say. Grams never run from one text into the next."""


class Contamination:
    """Finds the items of some ``benchmarks`` (by name) in a text. What it says is a pure function of text, items and
    ``config``; pickled, 5,000 items of HellaSwag are 7 MB.

    :class:`DataError` for a benchmark whose items are all too short to have a gram.
    """

    def __init__(self, benchmarks: Mapping[str, Items], config: ContaminationConfig | None = None) -> None:
        self.config = config = config or ContaminationConfig()
        self._names = [(name, id) for name, items in benchmarks.items() for id in items]
        texts = [list(items[id]) for items in benchmarks.values() for id in items]
        self._index = NgramIndex(texts, config.n, config.min_words)
        rule = {"rules": RULES, **config.model_dump(include={"n", "min_words", "action"})}
        decides = [rule, [[*name, own] for name, own in zip(self._names, texts, strict=True)]]
        self.fingerprint = hashlib.sha256(json.dumps(decides).encode()).hexdigest()
        """sha256 of all that decides what is said of a text: equal fingerprints, equal verdicts."""
        self._benchmarks = {name: self._counts(name) for name in benchmarks}
        for name, counts in self._benchmarks.items():
            if not counts["grams"]:
                raise DataError(
                    f"none of the {counts['items']:,} items of '{name}' has {self._index.min_words} words, so none can "
                    "be looked for",
                    "Lower min_words or n. Text without spaces between words counts as one word.",
                )

    def describe(self) -> dict[str, Any]:
        """The rule and, for each benchmark, its items, those too short to be looked for, and distinct grams."""
        rule = self.config.model_dump(mode="json")
        return {**rule, "rules": RULES, "fingerprint": self.fingerprint, "benchmarks": self._benchmarks}

    def fault(self, text: str) -> Fault | None:
        """Why a text goes, or None if it stays, if only in part."""
        return self.verdict(text).fault

    def verdict(self, text: str) -> Verdict:
        """``text`` as it stays, or its fault, and the items that were met in it."""
        places, grams = self._screen.find(text)
        if not len(places):
            return Verdict(text)
        met = self._items_of(grams)
        last_words = places + self._index.lengths[grams] - 1
        if self.config.action == "drop":
            first = int(places[0])
            return Verdict(text, self._fault(grams, word_places(text, [first])[first][0]), met=met)
        at = word_places(text, [*places.tolist(), *last_words.tolist()])
        spans = [(at[first][0], at[last][1]) for first, last in zip(places.tolist(), last_words.tolist(), strict=True)]
        return self._cut(text, spans, grams, met)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_screen"}

    @cached_property
    def _screen(self) -> NgramScreen:
        return NgramScreen(self._index)

    def _counts(self, benchmark: str) -> dict[str, int]:
        index = self._index
        own = np.array([name == benchmark for name, _ in self._names], dtype=bool)
        chosen = own[index.text_items[index.pair_texts]]
        with_grams = len(np.unique(index.text_items[index.pair_texts[chosen]]))
        items = int(own.sum())
        return {
            "items": items,
            "too_short": items - with_grams,
            "grams": len(np.unique(index.pair_grams[chosen])),
        }

    def _items_of(self, grams: Ints) -> tuple[tuple[str, str], ...]:
        """Every item that has any of the grams, in the order of the benchmarks."""
        texts = self._index.pair_texts[np.isin(self._index.pair_grams, grams)]
        return tuple(self._names[item] for item in np.unique(self._index.text_items[texts]).tolist())

    def _fault(self, grams: Ints, at: int) -> Fault:
        """By the first gram in the text: the first benchmark that has it, and the items of that one which do."""
        items = self._items_of(grams[:1])
        benchmark = items[0][0]
        ids = [id for name, id in items if name == benchmark]
        more = f" and {len(ids) - _SHOWN_ITEMS:,} more" if len(ids) > _SHOWN_ITEMS else ""
        found = f"{', '.join(ids[:_SHOWN_ITEMS])}{more}: '{self._index.words(int(grams[0]))}'"
        return Fault(f"holds items of {benchmark}", found, at)

    def _cut(self, text: str, spans: list[tuple[int, int]], grams: Ints, met: tuple[tuple[str, str], ...]) -> Verdict:
        holes = _widened(text, spans)
        starts, stops = zip(*holes, strict=True)
        between = (text[at:until].strip() for at, until in zip((0, *stops), (*starts, len(text)), strict=True))
        pieces = [piece for piece in between if piece]
        long = [piece for piece in pieces if len(piece) >= LEAST_PIECE_CHARACTERS]
        rest = "\n\n".join(long)
        if len(pieces) > MOST_PIECES or not long or len(self._screen.find(rest)[0]):
            return Verdict(text, self._fault(grams, spans[0][0]), met=met)
        benchmark = self._items_of(grams[:1])[0][0]
        at = len(long[0]) if text[: starts[0]].strip() == long[0] else 0
        return Verdict(rest, changes=(Change(f"passage with items of {benchmark}", len(holes), at),), met=met)


def _widened(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans with what goes around them, in order, those that touch as one."""
    holes: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        start, stop = start - AROUND_CHARACTERS, stop + AROUND_CHARACTERS
        before = [match.end() for match in _SPACE.finditer(text, max(0, start - WHOLE_WORD_CHARACTERS), max(0, start))]
        after = _SPACE.search(text, stop, stop + WHOLE_WORD_CHARACTERS)
        start = 0 if start <= 0 else before[-1] if before else start
        stop = min(len(text), after.start() if after is not None else stop)
        if holes and start <= holes[-1][1]:
            first, last = holes.pop()
            start, stop = first, max(last, stop)
        holes.append((start, stop))
    return holes
