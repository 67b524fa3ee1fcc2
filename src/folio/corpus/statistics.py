"""What a corpus is made of, counted in one walk: words, types, lengths, and how far a vocabulary reaches.

Memory does not grow with the text: types are bounded (``MOST_TYPES``), different lengths and characters are few.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, islice

from folio.corpus.document import Document

WORD = re.compile(r"\w+|[^\w\s]|[\n\t\r\f\v]")
"""A token as counted here: a word, one mark of punctuation, or a control character that breaks lines; no spaces."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
SAMPLE = 20_000
"""Lengths that a histogram is drawn from, at most."""
SHARES = (0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
MOST_TYPES = 1_000_000
"""Types that are counted at a time, about 120 MB; beyond, the rare ones are dropped."""
LONG_LINE, LONGEST_TYPE = 1 << 20, 100
"""Characters: a longer line is counted in pieces, and a longer word (of no language) by its beginning."""


@dataclass(slots=True)
class Lengths:
    """How often each length occurs."""

    counts: Counter[int] = field(default_factory=Counter)

    def add(self, length: int) -> None:
        self.counts[length] += 1

    def at(self, quantiles: Iterable[float]) -> list[float]:
        """The lengths at ``quantiles`` in [0, 1], interpolated between neighbours as ``numpy.quantile`` does."""
        last = self.counts.total() - 1
        if last < 0:
            return []
        positions = [quantile * last for quantile in quantiles]
        below = self._in_order(int(position) for position in positions)
        above = self._in_order(min(int(position) + 1, last) for position in positions)
        return [
            low + (position - int(position)) * (high - low)
            for position, low, high in zip(positions, below, above, strict=True)
        ]

    def sample(self, most: int = SAMPLE) -> list[int]:
        """All lengths in order, or ``most`` of them evenly spaced through that order: for a histogram."""
        total = self.counts.total()
        if total <= most:
            return sorted(self.counts.elements())
        return self._in_order(index * total // most for index in range(most))

    @property
    def total(self) -> int:
        """The sum of all lengths."""
        return sum(length * count for length, count in self.counts.items())

    def _in_order(self, places: Iterable[int]) -> list[int]:
        """The lengths at ``places``, counted from 0, of all lengths in order."""
        lengths = sorted(self.counts)
        reached = list(accumulate(self.counts[length] for length in lengths))
        return [lengths[bisect_right(reached, place)] for place in places]

    @property
    def mean(self) -> float:
        return self.total / self.counts.total() if self.counts else 0.0


@dataclass(slots=True)
class Statistics:
    """Counts of a corpus; tokens and types are those of :data:`WORD`, lengths are in tokens unless they say."""

    documents: int = 0
    characters: int = 0
    bytes: int = 0
    """Of the text as UTF-8."""
    lines: int = 0
    """Lines with at least one token."""
    tokens: int = 0
    encoded_tokens: int | None = None
    """By the tokenizer that was given, if one was."""
    types: Counter[str] = field(default_factory=Counter)
    alphabet: Counter[str] = field(default_factory=Counter)
    """Occurrences of each character."""
    document_lengths: Lengths = field(default_factory=Lengths)
    line_lengths: Lengths = field(default_factory=Lengths)
    """Tokens of a line, its end not counted."""
    character_lengths: Lengths = field(default_factory=Lengths)
    """Characters of a document."""
    byte_lengths: Lengths = field(default_factory=Lengths)
    """UTF-8 bytes of a document."""
    encoded_lengths: Lengths = field(default_factory=Lengths)
    """Ids that the tokenizer makes of a document, where one was given."""
    most_types: int = MOST_TYPES
    missed: int = 0
    """By how much the count of a type may be too low, because rare types were dropped on the way; 0: all are exact."""

    def add(self, text: str, encoded: int | None = None) -> None:
        """Count one document; ``encoded`` is the number of ids that a tokenizer makes of it."""
        size = len(text.encode("utf-8"))
        self.documents += 1
        self.characters += len(text)
        self.bytes += size
        self.character_lengths.add(len(text))
        self.byte_lengths.add(size)
        self.alphabet.update(text)
        newlines = text.count("\n")
        tokens = newlines
        for line in _lines(text):
            words = self._count_line(line)
            if words:
                self.line_lengths.add(words)
                self.lines += 1
                tokens += words
        if newlines:
            self.types["\n"] += newlines
        self.tokens += tokens
        self.document_lengths.add(tokens)
        if encoded is not None:
            self.encoded_tokens = (self.encoded_tokens or 0) + encoded
            self.encoded_lengths.add(encoded)
        if len(self.types) > self.most_types:
            self._drop_rare()

    def top_words(self, count: int) -> list[tuple[str, int]]:
        """The most frequent tokens that are words; ties in the order of the alphabet."""
        words = ((token, times) for token, times in self._by_frequency() if is_word(token))
        return list(islice(words, count))

    def coverage(self) -> list[int]:
        """Tokens covered by the most frequent 1, 2, 3, ... types."""
        return list(accumulate(sorted(self.types.values(), reverse=True)))

    def types_covering(self, share: float) -> int:
        """The fewest types that make up ``share`` of the tokens; all that are known where they do not suffice."""
        covered = self.coverage()
        return min(len(covered), bisect_left(covered, share * self.tokens) + 1)

    def with_min_count(self, min_count: int) -> tuple[int, float]:
        """Types that occur at least ``min_count`` times, and the share of the tokens they cover."""
        kept = [times for times in self.types.values() if times >= min_count]
        return len(kept), sum(kept) / max(1, self.tokens)

    def _count_line(self, line: str) -> int:
        """Count the types of one line; how many tokens it has. A line without end costs no more memory than others."""
        if len(line) <= LONG_LINE:
            words = WORD.findall(line)
            self.types.update(words if len(line) <= LONGEST_TYPE else _shortened(words))
            return len(words)
        total, start = 0, 0
        while start < len(line):
            end = line.rfind(" ", start, start + LONG_LINE) + 1 or start + LONG_LINE
            words = WORD.findall(line[start:end])
            self.types.update(_shortened(words))
            if len(self.types) > self.most_types:
                self._drop_rare()
            total, start = total + len(words), end
        return total

    def _drop_rare(self) -> None:
        """Halve the number of types by dropping the rarest (in the manner of lossy counting, Manku & Motwani 2002)."""
        rare = 0
        while len(self.types) > self.most_types // 2:
            rare += 1
            self.types = Counter({token: times for token, times in self.types.items() if times > rare})
        self.missed += rare

    def _by_frequency(self) -> Iterator[tuple[str, int]]:
        yield from sorted(self.types.items(), key=lambda item: (-item[1], item[0]))


def _lines(text: str) -> Iterator[str]:
    """The lines of a text, without a list of all of a very long one."""
    start = 0
    while len(text) - start > LONG_LINE:
        end = text.find("\n", start + LONG_LINE)
        if end < 0:
            break
        yield from text[start:end].split("\n")
        start = end + 1
    yield from text[start:].split("\n") if start else text.split("\n")


def _shortened(words: list[str]) -> list[str]:
    if max(map(len, words), default=0) > LONGEST_TYPE:
        return [word[:LONGEST_TYPE] for word in words]
    return words


def is_word(token: str) -> bool:
    """Whether a token is a word: no mark of punctuation, no line end."""
    return token[0].isalnum() or token[0] == "_"


def count(documents: Iterable[Document], encoded_length: Callable[[str], int] | None = None) -> Statistics:
    """Walk ``documents`` once; ``encoded_length`` gives the number of ids a tokenizer makes of a text."""
    found = Statistics(encoded_tokens=0 if encoded_length is not None else None)
    for document in documents:
        found.add(document.text, None if encoded_length is None else encoded_length(document.text))
    return found
