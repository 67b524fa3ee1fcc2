"""Vectors of words learnt from a stream of ids, a line being a sentence: gensim's word2vec, repeatable bit for bit.

N words, C numbers in a vector
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from folio.errors import DataError, require
from folio.tokenizer.word2vec_config import Word2VecConfig

Ids = NDArray[Any]
Rows = NDArray[np.float32]
MOST_WORDS = 10_000
"""Words in a sentence; a longer line is cut, since gensim would drop its end."""


@dataclass(frozen=True)
class Lines:
    """The lines of a text given as ids, each a list of words, its end among them; read as often as wanted.

    ``words[id]`` is None for an id that is left out. A line ends after ``line_end`` (None: nowhere else) and before
    ``begin``, the id that stands before every document.
    """

    blocks: Callable[[], Iterable[Ids]]
    words: Sequence[str | None]
    line_end: int | None
    begin: int | None

    def __iter__(self) -> Iterator[list[str]]:
        rest: Ids = np.empty(0, dtype=np.uint32)
        for block in self.blocks():
            ids = np.concatenate([rest, block])
            cuts = [np.flatnonzero(ids == self.line_end) + 1, np.flatnonzero(ids == self.begin)]
            *whole, rest = np.split(ids, np.unique(np.concatenate(cuts)))
            for line in whole:
                yield from self._sentences(line)
        yield from self._sentences(rest)

    def _sentences(self, line: Ids) -> Iterator[list[str]]:
        words = [word for id in line.tolist() if (word := self.words[id]) is not None]
        for start in range(0, len(words), MOST_WORDS):
            yield words[start : start + MOST_WORDS]


def count_ids(blocks: Iterable[Ids], size: int) -> NDArray[np.int64]:
    """How often each id below ``size`` occurs."""
    counts = np.zeros(size, dtype=np.int64)
    for block in blocks:
        counts += np.bincount(block, minlength=size)
    return counts


def train_word2vec(
    lines: Lines,
    counts: Mapping[str, int],
    width: int,
    config: Word2VecConfig,
    on_epoch: Callable[[int], None] = lambda epoch: None,
) -> Rows:
    """The vectors (N, C) of the words in ``counts``, in that order; these are all words of ``lines``, and how often.

    One thread, in the order of the text, from generators of its own, so that the same text and settings give the same
    bits, whatever Python's hash seed. :class:`DataError` if there is nothing to learn from,
    :class:`~folio.errors.MissingExtra` without gensim.
    """
    gensim = require("gensim.models", "study")
    if len(counts) < 2:
        raise DataError(
            f"word2vec tells words apart, and the text has {len(counts)} of them",
            "Give more text, or a lower min_count.",
        )
    with _quiet():
        model = gensim.Word2Vec(
            vector_size=width,
            window=config.window,
            negative=config.negative,
            sg=int(config.skip_gram),
            sample=config.subsample,
            seed=config.seed,
            epochs=config.epochs,
            workers=1,
            min_count=1,
            sorted_vocab=0,  # gensim would put words of equal count into another order than ours
        )
        model.build_vocab_from_freq(dict(counts))
        reading = _Epochs(lines, on_epoch)
        model.train(reading, total_words=sum(counts.values()), epochs=config.epochs)
    rows: Rows = np.array(model.wv.vectors, dtype=np.float32)
    assert model.wv.index_to_key == list(counts)
    assert all(model.wv.key_to_index[word] == row for row, word in enumerate(counts))
    assert reading.done == config.epochs
    if not np.isfinite(rows).all():
        raise DataError("word2vec came to vectors that are not numbers", "Give another seed, or fewer epochs.")
    return rows


class _Epochs:
    """The sentences, read anew for each epoch, which is told when it is over."""

    def __init__(self, lines: Lines, on_epoch: Callable[[int], None]) -> None:
        self._lines = lines
        self._on_epoch = on_epoch
        self.done = 0

    def __iter__(self) -> Iterator[list[str]]:
        yield from self._lines
        self.done += 1
        self._on_epoch(self.done)


@contextmanager
def _quiet() -> Iterator[None]:
    """gensim logs as warnings what is no trouble here, such as a text of less than ten batches."""
    logger = logging.getLogger("gensim")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
