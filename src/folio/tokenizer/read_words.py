"""A text read once as words and kept as numbers, to learn from it which words are near to which."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable

import numpy as np

from folio.tokenizer.nearest import nearest_rows
from folio.tokenizer.pieces import pieces
from folio.tokenizer.word2vec import Ids, Lines, count_ids, train_word2vec
from folio.tokenizer.word2vec_config import NearestConfig
from folio.tokenizer.words import words_of

_BEGIN = 0
"""The number that stands before every document."""


class ReadWords:
    """Every word of ``texts``, as a number of four bytes in the order of first occurrence."""

    def __init__(self, texts: Iterable[str]) -> None:
        numbers: dict[str, int] = {}
        self._documents: list[Ids] = []
        for text in texts:
            document = array("I", (_BEGIN,))
            for piece in pieces(text):
                document.extend(numbers.setdefault(word, len(numbers) + 1) for word in words_of(piece))
            self._documents.append(np.frombuffer(document, dtype=np.uint32))
        occurrences = count_ids(self._documents, len(numbers) + 1)
        self._numbers = numbers
        self.counts: Counter[str] = Counter({word: int(occurrences[number]) for word, number in numbers.items()})
        """How often each word occurs, in order of first occurrence."""

    def nearest(self, kept: int, config: NearestConfig) -> dict[str, str]:
        """For each word but the ``kept`` most frequent ones, the one of these nearest to it.

        Word2vec is trained on all words, however rare.
        """
        line_end = self._numbers.get("\n")
        lines = Lines(lambda: self._documents, (None, *self._numbers), line_end, _BEGIN)
        ordered = self.counts.most_common()
        rows = train_word2vec(lines, dict(ordered), config.width, config)
        words = [word for word, _ in ordered]
        chosen = nearest_rows(rows[kept:], rows[:kept])
        return {word: words[place] for word, place in zip(words[kept:], chosen.tolist(), strict=True)}
