"""Which items of a benchmark stand, in whole or in part, in a training text: word n-grams that both have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from folio.corpus.ngrams import Ints, NgramIndex, words_of
from folio.errors import DataError
from folio.evaluation.contamination.passages import Portion
from folio.evaluation.contamination.processes import in_processes
from folio.evaluation.tasks import Question

Answers = Literal["right", "all", "none"]
State = Literal["contaminated", "clean", "too short"]


class Source(Protocol):
    """A training text in portions that several processes can share: :mod:`folio.evaluation.contamination.passages`."""

    def portions(self) -> Iterable[Any]:
        """The tasks, in the order of the text."""

    def portion(self, task: Any, words_after: int) -> Portion:
        """The text of one."""

    def locate(self, task: Any, document: int, at: int, word: int) -> int:
        """Where a word of a passage is."""


@dataclass(frozen=True, slots=True)
class ItemOverlap:
    """One item: distinct grams and how many of them were found, in that of its texts of which most was, by share;
    and how often the grams of all its texts are there.

    ``gram`` is the first that was met, in ``document`` (from 0, in the order of the text) at ``offset``: ids from the
    split's first in shards, characters from the document's first in documents.
    """

    grams: int
    found: int
    occurrences: int
    gram: str | None = None
    document: int | None = None
    offset: int | None = None

    @property
    def state(self) -> State:
        """An item without a gram is too short to tell; one found gram makes it contaminated."""
        return "contaminated" if self.found else "clean" if self.grams else "too short"


@dataclass(frozen=True)
class Findings:
    """What a search found: for each gram of ``index`` how often it is there, and where each item is met first.

    ``firsts`` gives a gram, document and offset by item. ``documents_hit`` are those with any gram of any item.
    """

    index: NgramIndex
    counts: Ints
    firsts: Mapping[int, tuple[int, int, int]]
    documents: int
    documents_hit: int
    text_bytes: int

    def items(self) -> list[ItemOverlap]:
        """Every item, in order."""
        index = self.index
        grams = index.grams_of_texts()
        found = np.bincount(index.pair_texts[self.counts[index.pair_grams] > 0], minlength=len(grams))
        share = found / np.maximum(grams, 1)
        order = np.lexsort((-grams, -share, index.text_items))
        met, first = np.unique(index.text_items[order], return_index=True)
        of_items = index.text_items[index.pair_texts]
        pairs = np.unique(np.stack([of_items, index.pair_grams]), axis=1)
        occurrences = np.zeros(index.items, dtype=np.int64)
        np.add.at(occurrences, pairs[0], self.counts[pairs[1]])
        overlaps = [ItemOverlap(0, 0, 0)] * index.items
        for item, text in zip(met.tolist(), order[first].tolist(), strict=True):
            numbers = (int(grams[text]), int(found[text]), int(occurrences[item]))
            if item in self.firsts:
                gram, document, offset = self.firsts[item]
                overlaps[item] = ItemOverlap(*numbers, index.words(gram), document, offset)
            else:
                overlaps[item] = ItemOverlap(*numbers)
        return overlaps

    def gram_counts(self, items: range) -> dict[str, int]:
        """Distinct grams of some items, how many of those were found, and how often in all."""
        index = self.index
        of_items = index.text_items[index.pair_texts]
        chosen = index.pair_grams[(of_items >= items.start) & (of_items < items.stop)]
        counts = self.counts[np.unique(chosen)]
        return {"grams": len(counts), "grams_found": int((counts > 0).sum()), "occurrences": int(counts.sum())}


@dataclass(frozen=True)
class SoFar:
    """Progress: units of the text (ids, characters), its bytes, and items with a gram found."""

    size: int
    text_bytes: int
    items_found: int


def question_texts(forms: Iterable[Question], answers: Answers) -> tuple[str, ...]:
    """The texts by which a question is looked for, in all ``forms`` that conventions give it, without repetition.

    "right": the context with the right ending, "all": with each ending, "none": the context alone.
    """
    texts: dict[str, None] = {}
    for question in forms:
        several = max(len(question.contexts), len(question.endings))
        contexts, endings = (
            some * several if len(some) == 1 else some for some in (question.contexts, question.endings)
        )
        for number, (context, ending) in enumerate(zip(contexts, endings, strict=True)):
            if answers == "none":
                texts[context] = None
            elif answers == "all" or number == question.label:
                texts[context + ending] = None
    return tuple(texts)


def index_of(items: Sequence[Sequence[str]], n: int, min_words: int) -> NgramIndex:
    """The n-grams of the items; :class:`DataError` if all are too short to have one."""
    index = NgramIndex(items, n, min_words)
    if not index.grams:
        longest = max((len(words_of(text)) for texts in items for text in texts), default=0)
        raise DataError(
            f"none of the {len(items):,} items has {index.min_words} words (the longest has {longest}), so none can "
            f"be looked for",
            "Give a smaller --min-words or --n. Text without spaces between words counts as one word.",
        )
    return index


def search(
    index: NgramIndex, source: Source, workers: int = 1, on_progress: Callable[[SoFar], None] = lambda so_far: None
) -> Findings:
    """Find every gram of ``index`` in ``source``; the same for any number of ``workers``, in bounded memory."""
    counts = np.zeros(index.grams, dtype=np.int64)
    firsts: dict[int, tuple[int, int, int]] = {}
    documents = documents_hit = size = text_bytes = 0
    last_hit = -1
    for number, (task, hits) in enumerate(in_processes(_Search(index, source), source.portions(), workers)):
        if number == 0:
            documents = int(hits.begins_within)  # files made by others may begin in the middle of a document
        begun = documents - 1
        for item, which in _new_items(index, hits, firsts):
            document, at, word = int(hits.document[which]), int(hits.at[which]), int(hits.word[which])
            place = source.locate(task, document, at, word)
            firsts[item] = (int(hits.grams[which]), begun + document, place)
        counts[hits.grams] += hits.counts
        if len(hits.documents_hit):
            documents_hit += len(hits.documents_hit) - (begun + int(hits.documents_hit[0]) == last_hit)
            last_hit = begun + int(hits.documents_hit[-1])
        documents += hits.documents
        size += hits.size
        text_bytes += hits.text_bytes
        on_progress(SoFar(size, text_bytes, len(firsts)))
    return Findings(index, counts, firsts, documents, documents_hit, text_bytes)


@dataclass(frozen=True, slots=True)
class _Hits:
    """What one portion holds: its grams (distinct, with counts, and where each is first), and documents with any."""

    size: int
    documents: int
    text_bytes: int
    begins_within: bool
    grams: Ints
    counts: Ints
    place: Ints
    document: Ints
    at: Ints
    word: Ints
    documents_hit: Ints


@dataclass(frozen=True)
class _Search:
    """What each process does."""

    index: NgramIndex
    source: Source

    def __call__(self, task: Any) -> _Hits:
        portion = self.source.portion(task, self.index.overlap)
        own = len(portion.passages) - portion.borrowed
        parts: list[Ints] = []
        starts = []
        size = 0
        for number, passage in enumerate(portion.passages):
            if number and passage.document != portion.passages[number - 1].document:
                parts.append(np.zeros(1, dtype=np.int32))
                size += 1
            starts.append(size)
            parts.append(self.index.encode(words_of(passage.text)))
            size += len(parts[-1])
        words = np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)
        place, gram = self.index.find(words)
        is_own = place < (starts[own] if portion.borrowed else size)
        place, gram = place[is_own], gram[is_own]
        passages = np.searchsorted(starts, place, side="right") - 1
        documents = np.array([passage.document for passage in portion.passages], dtype=np.int64)
        grams, first, counts = np.unique(gram, return_index=True, return_counts=True)
        chosen = passages[first]
        return _Hits(
            size=portion.size,
            documents=portion.documents,
            text_bytes=sum(len(passage.text.encode(errors="replace")) for passage in portion.passages[:own]),
            begins_within=bool(portion.passages) and portion.passages[0].document == 0,
            grams=grams,
            counts=counts,
            place=place[first],
            document=documents[chosen],
            at=np.array([passage.offset for passage in portion.passages], dtype=np.int64)[chosen],
            word=place[first] - np.array(starts, dtype=np.int64)[chosen],
            documents_hit=np.unique(documents[passages]),
        )


def _new_items(index: NgramIndex, hits: _Hits, known: Mapping[int, object]) -> Iterator[tuple[int, int]]:
    """Items that are met for the first time, with the number (in ``hits``) of the first of their grams there."""
    if not len(hits.grams):
        return
    number = np.full(index.grams, -1, dtype=np.int64)
    number[hits.grams] = np.arange(len(hits.grams))
    chosen = number[index.pair_grams]
    items, chosen = index.text_items[index.pair_texts[chosen >= 0]], chosen[chosen >= 0]
    order = np.lexsort((chosen, hits.place[chosen], items))
    met, first = np.unique(items[order], return_index=True)
    for item, which in zip(met.tolist(), chosen[order][first].tolist(), strict=True):
        if item not in known:
            yield item, which
