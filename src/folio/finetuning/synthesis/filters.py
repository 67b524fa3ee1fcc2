"""Which answers are set aside, and why: empty, cut short, too short or long, forbidden words, near-duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from folio.corpus.ngrams import words_of
from folio.finetuning.synthesis.tables import FiltersTable, OutputTable

EMPTY, CUT, REFUSED, SHORT, LONG = "empty", "cut short", "refused", "too short", "too long"
FORBIDDEN, MARKED, DUPLICATE, NEAR_DUPLICATE = "forbidden word", "holds a mark", "duplicate", "near-duplicate"
Shingles = frozenset[tuple[str, ...]]


def shingles(words: list[str], size: int) -> Shingles:
    """The distinct runs of ``size`` words; of fewer words, all of them as one (Broder 1997)."""
    return frozenset(tuple(words[at : at + size]) for at in range(max(1, len(words) - size + 1)))


class Similar:
    """Texts by their shingles: finds the most similar one exactly, by counting what each shares.

    An index from shingle to texts makes a search cost what is shared, not the number of texts.
    """

    def __init__(self) -> None:
        self._holders: dict[tuple[str, ...], list[int]] = {}
        self._sizes: list[int] = []

    def add(self, found: Shingles) -> None:
        for shingle in found:
            self._holders.setdefault(shingle, []).append(len(self._sizes))
        self._sizes.append(len(found))

    def most(self, found: Shingles) -> float:
        """The highest Jaccard similarity (shared shingles over all of both) with any text, 0 without texts."""
        shared = Counter(text for shingle in found for text in self._holders.get(shingle, ()))
        return max((count / (len(found) + self._sizes[text] - count) for text, count in shared.items()), default=0.0)


class Filters:
    """The filters of a spec, with the texts that were kept so far."""

    def __init__(self, table: FiltersTable, output: OutputTable, kept: Iterable[str]) -> None:
        self.table, self.output = table, output
        self._forbidden = [f" {' '.join(words_of(phrase))} " for phrase in table.forbidden]
        self._texts: set[tuple[str, ...]] = set()
        self._similar = Similar()
        for text in kept:
            self.add(text)

    def cleaned(self, text: str) -> str:
        """``text`` without outer white space, and without the spec's marks where the endpoint set them itself."""
        text = text.strip()
        begin, end = self.output.begin, self.output.end
        if begin and text.startswith(begin) and text.endswith(end) and len(text) >= len(begin) + len(end):
            text = text[len(begin) : len(text) - len(end)].strip()
        return text

    def reason(self, text: str, finish: str) -> str | None:
        """Why a cleaned ``text`` is set aside, None if it passes. ``finish`` is the endpoint's own word."""
        if finish == "content_filter":
            return REFUSED
        if not text:
            return EMPTY
        if finish == "length" and not self.table.keep_cut:
            return CUT
        if self.output.begin and (self.output.begin in text or self.output.end in text):
            return MARKED
        count = len(text.split())
        if count < self.table.min_words:
            return SHORT
        if self.table.max_words is not None and count > self.table.max_words:
            return LONG
        words = words_of(text)
        spaced = f" {' '.join(words)} "
        if any(phrase in spaced for phrase in self._forbidden):
            return FORBIDDEN
        if tuple(words) in self._texts:
            return DUPLICATE
        near = self.table.near_duplicate
        if near is not None and self._similar.most(shingles(words, self.table.shingle_words)) >= near:
            return NEAR_DUPLICATE
        return None

    def add(self, text: str) -> None:
        """Remember a text that was kept."""
        words = words_of(text)
        self._texts.add(tuple(words))
        if self.table.near_duplicate is not None:
            self._similar.add(shingles(words, self.table.shingle_words))
