"""Shards and documents as text in portions of bounded size, cut where no word is, with the words that follow.

A portion goes to one process at a time. Which portions there are depends on the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from folio.corpus import Document
from folio.corpus.ngrams import words_of
from folio.shards.format import read_header
from folio.shards.stream import Ids, TokenStream
from folio.tokenizer import Tokenizer

PORTION_IDS = 500_000
PORTION_CHARACTERS = 2_000_000
PASSAGE_IDS = 1024
PASSAGE_CHARACTERS = 4096
WINDOW_IDS = 16
"""Ids to either side of a cut on which it is tried out."""
REPLACEMENT = "\ufffd"
"""What decoding makes of bytes that are no whole character."""
_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class Passage:
    """Part of a document. ``document`` counts those that begin in its portion, so that 0 is one begun before it;
    ``offset`` is where it begins: in ids from the split's first, or in characters from the document's first."""

    document: int
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class Portion:
    """Passages in order; the last ``borrowed`` of them belong to the next portion, and only lead a gram to its end.

    ``documents`` begin here, in ``size`` units (ids or characters).
    """

    passages: tuple[Passage, ...]
    borrowed: int
    documents: int
    size: int


@dataclass(frozen=True)
class ShardText:
    """One split of shards, to be read as text in any process: files, and the tokenizer that made them."""

    paths: tuple[Path, ...]
    tokenizer: Tokenizer
    portion_ids: int = PORTION_IDS
    passage_ids: int = PASSAGE_IDS

    @cached_property
    def stream(self) -> TokenStream:
        return TokenStream([(path, read_header(path)) for path in self.paths])

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "stream"}  # maps are not to be copied

    def portions(self) -> Iterator[int]:
        """The numbers that :meth:`portion` takes."""
        return iter(range(-(-len(self.stream) // self.portion_ids)))

    def portion(self, number: int, words_after: int) -> Portion:
        """Portion ``number``, followed by at least ``words_after`` words where its last document has them."""
        start = self._cut(number * self.portion_ids)
        stop = self._cut((number + 1) * self.portion_ids)
        passages = []
        begun = 0
        for at, end in self._passages(start, stop):
            begun += self._begins_document(at)
            passages.append(self._passage(at, end, begun))
        after = self._after(stop, begun) if passages else iter(())
        borrowed = _enough(after, words_after)
        return Portion((*passages, *borrowed), len(borrowed), begun, stop - start)

    def locate(self, number: int, document: int, at: int, word: int) -> int:
        """The id, from the split's first, that word ``word`` of the passage at ``at`` begins with."""
        stream = self.stream
        return at + _reach(lambda size: self.tokenizer.decode(stream.read(at, size)), len(stream) - at, word) - 1

    def _passages(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The bounds of passages, each within one document; its end-of-text id opens its first."""
        ids = self.stream.read(start, stop - start)
        bounds = [start, *(start + at for at in self._ends_of_text(ids) if at), stop]
        for at, end in pairwise(bounds):
            while at < end:
                cut = end if end - at <= self.passage_ids else min(end, self._cut(at + self.passage_ids))
                yield at, cut
                at = cut

    def _after(self, at: int, document: int) -> Iterator[Passage]:
        while at < len(self.stream) and not self._begins_document(at):
            ids = self._same_document(self.stream.read(at, self._cut(at + 8 * WINDOW_IDS) - at))
            yield Passage(document, at, self.tokenizer.decode(ids))
            at += len(ids)

    def _passage(self, at: int, end: int, document: int) -> Passage:
        offset = at + self._begins_document(at)
        return Passage(document, offset, self.tokenizer.decode(self.stream.read(offset, end - offset)))

    def _begins_document(self, at: int) -> bool:
        return bool(self._ends_of_text(self.stream.read(at, 1)))

    def _cut(self, at: int) -> int:
        """The first place from ``at`` on that no word, and no character of one, lies across."""
        while 0 < at < len(self.stream) and not self._parts_words(at):
            at += 1
        return min(at, len(self.stream))

    def _parts_words(self, at: int) -> bool:
        """Whether the words on both sides are, apart, what they are together.

        Tokens may hold part of a character, apostrophes and marks join what stands around them, and word tokens have
        spaces set by rules; so it is tried, on windows with a word on either side, which decides for the whole text.
        """
        before = self._same_document(self.stream.read(max(0, at - WINDOW_IDS), min(at, WINDOW_IDS))[::-1])[::-1]
        after = self._same_document(self.stream.read(at, min(WINDOW_IDS, len(self.stream) - at)))
        if not len(before) or not len(after):
            return True
        left, right = self.tokenizer.decode(before), self.tokenizer.decode(after)
        if left.endswith(REPLACEMENT) or right.startswith(REPLACEMENT):
            return False
        whole = self.tokenizer.decode(np.concatenate([before, after]))
        ends, begins = words_of(left), words_of(right)
        return bool(ends and begins) and ends + begins == words_of(whole)

    def _same_document(self, ids: Ids) -> Ids:
        """``ids`` up to the first end-of-text."""
        ends = self._ends_of_text(ids)
        return ids[: ends[0]] if ends else ids

    def _ends_of_text(self, ids: Ids) -> list[int]:
        eot_id = self.tokenizer.eot_id
        return [] if eot_id is None else np.flatnonzero(ids == eot_id).tolist()


@dataclass(frozen=True)
class DocumentText:
    """Documents as they are walked, in portions that hold their text themselves."""

    documents: Callable[[], Iterable[Document]]
    words_after: int
    portion_characters: int = PORTION_CHARACTERS
    passage_characters: int = PASSAGE_CHARACTERS

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "documents": None}  # portions carry the text

    def portions(self) -> Iterator[Portion]:
        passages: list[Passage] = []
        begun = size = 0
        for document in self.documents():
            begun += 1
            for at, end in self._bounds(document.text):
                if size >= self.portion_characters:
                    borrowed = self._borrowed(document.text, at, begun) if at else ()
                    yield Portion((*passages, *borrowed), len(borrowed), begun - (not at), size)
                    passages, begun, size = [], int(not at), 0
                passages.append(Passage(begun, at, document.text[at:end]))
                size += end - at
        if passages:
            yield Portion(tuple(passages), 0, begun, size)

    def portion(self, portion: Portion, words_after: int) -> Portion:
        """The portion itself; it was made with ``words_after`` already."""
        assert words_after == self.words_after
        return portion

    def locate(self, portion: Portion, document: int, at: int, word: int) -> int:
        """The character of its document that word ``word`` of a passage begins with."""
        wanted = (document, at)
        text = next(passage.text for passage in portion.passages if (passage.document, passage.offset) == wanted)
        return at + _reach(lambda size: text[:size], len(text), word) - 1

    def _bounds(self, text: str, at: int = 0) -> Iterator[tuple[int, int]]:
        """Cut before white space, which no word and no composed character has in it."""
        while at < len(text):
            space = _SPACE.search(text, at + self.passage_characters)
            end = space.start() if space else len(text)
            yield at, end
            at = end

    def _borrowed(self, text: str, at: int, document: int) -> tuple[Passage, ...]:
        rest = (Passage(document, begin, text[begin:end]) for begin, end in self._bounds(text, at))
        return _enough(rest, self.words_after)


def _enough(passages: Iterator[Passage], words: int) -> tuple[Passage, ...]:
    """As many of the passages as hold so many words."""
    taken: list[Passage] = []
    while words > 0 and (passage := next(passages, None)) is not None:
        taken.append(passage)
        words -= len(words_of(passage.text))
    return tuple(taken)


def _reach(text_of: Callable[[int], str], most: int, word: int) -> int:
    """The least size whose text holds word ``word`` (from 0), or its beginning."""
    low, high = 1, min(64, most)
    while high < most and len(words_of(text_of(high))) <= word:
        low, high = high + 1, min(2 * high, most)
    while low < high:
        middle = (low + high) // 2
        if len(words_of(text_of(middle))) > word:
            high = middle
        else:
            low = middle + 1
    return low
