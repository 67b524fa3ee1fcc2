"""What a corpus is made of, counted in one walk: words, types, lengths, and how far a vocabulary reaches.

Memory grows with the number of types and of different lengths, not with the text.
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

    def _in_order(self, places: Iterable[int]) -> list[int]:
        """The lengths at ``places``, counted from 0, of all lengths in order."""
        lengths = sorted(self.counts)
        reached = list(accumulate(self.counts[length] for length in lengths))
        return [lengths[bisect_right(reached, place)] for place in places]

    @property
    def mean(self) -> float:
        total = self.counts.total()
        return sum(length * count for length, count in self.counts.items()) / total if total else 0.0


@dataclass(slots=True)
class Statistics:
    """Counts of a corpus; tokens and types are those of :data:`WORD`, lengths are in tokens."""

    documents: int = 0
    characters: int = 0
    bytes: int = 0
    """Of the text as UTF-8."""
    lines: int = 0
    """Lines with at least one token."""
    encoded_tokens: int | None = None
    """By the tokenizer that was given, if one was."""
    types: Counter[str] = field(default_factory=Counter)
    alphabet: Counter[str] = field(default_factory=Counter)
    """Occurrences of each character."""
    document_lengths: Lengths = field(default_factory=Lengths)
    line_lengths: Lengths = field(default_factory=Lengths)
    """Tokens of a line, its end not counted."""

    @property
    def tokens(self) -> int:
        return self.types.total()

    def top_words(self, count: int) -> list[tuple[str, int]]:
        """The most frequent tokens that are words; ties in the order of the alphabet."""
        words = ((token, times) for token, times in self._by_frequency() if token[0].isalnum() or token[0] == "_")
        return list(islice(words, count))

    def coverage(self) -> list[int]:
        """Tokens covered by the most frequent 1, 2, 3, ... types."""
        return list(accumulate(sorted(self.types.values(), reverse=True)))

    def types_covering(self, share: float) -> int:
        """The fewest types that make up ``share`` of the tokens."""
        covered = self.coverage()
        return bisect_left(covered, share * covered[-1]) + 1 if covered else 0

    def with_min_count(self, min_count: int) -> tuple[int, float]:
        """Types that occur at least ``min_count`` times, and the share of the tokens they cover."""
        kept = [times for times in self.types.values() if times >= min_count]
        return len(kept), sum(kept) / max(1, self.tokens)

    def _by_frequency(self) -> Iterator[tuple[str, int]]:
        yield from sorted(self.types.items(), key=lambda item: (-item[1], item[0]))


def count(documents: Iterable[Document], encoded_length: Callable[[str], int] | None = None) -> Statistics:
    """Walk ``documents`` once; ``encoded_length`` gives the number of ids a tokenizer makes of a text."""
    found = Statistics(encoded_tokens=0 if encoded_length is not None else None)
    for document in documents:
        found.documents += 1
        found.characters += len(document.text)
        found.bytes += len(document.text.encode("utf-8"))
        found.alphabet.update(document.text)
        newlines = document.text.count("\n")
        tokens = newlines
        for line in document.text.split("\n"):
            words = WORD.findall(line)
            if words:
                found.types.update(words)
                found.line_lengths.add(len(words))
                found.lines += 1
                tokens += len(words)
        if newlines:
            found.types["\n"] += newlines
        found.document_lengths.add(tokens)
        if encoded_length is not None and found.encoded_tokens is not None:
            found.encoded_tokens += encoded_length(document.text)
    return found
