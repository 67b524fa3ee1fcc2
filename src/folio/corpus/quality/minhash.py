"""How alike two texts are by the runs of words they share, from a few hashes of each (Broder 1997).

For a hash function drawn at random, the least hash of two sets is the same one with a probability that is the share of
their members they have in common: Jaccard similarity s. Hashes are taken in bands of r; all of a band agree with
s^r, at least one of b bands with 1 - (1 - s^r)^b (Leskovec, Rajaraman & Ullman, chapter 3).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from folio.corpus.quality.config import NearConfig

Ints = NDArray[Any]

# Scripts that part no words: Thai, Lao, Burmese, Khmer, kana, Han. A character of theirs is a word.
_UNPARTED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNPARTED}]|[^\W_{_UNPARTED}]+")
_STEP = np.uint64(0x9E3779B97F4A7C15)
_ROWS_AT_ONCE = 1 << 14


def shingle_words_of(text: str) -> list[str]:
    """The words that near-duplicates are compared by: NFC, case folded, letters and digits alone."""
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold())


def found_with_probability(similarity: float, bands: int, rows: int) -> float:
    """The chance that two documents of this Jaccard similarity share a band: the S-curve."""
    return 1 - (1 - similarity**rows) ** bands


def jaccard(one: Ints, other: Ints) -> float:
    """The share of the members of either of two sets (sorted, distinct) that both have."""
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)


class MinHash:
    """The hash functions that a :class:`NearConfig` draws; the same on every machine."""

    def __init__(self, config: NearConfig) -> None:
        self.config = config
        draw = np.random.Generator(np.random.PCG64(config.seed))
        count = config.bands * config.rows
        self._factors = draw.integers(0, 2**63, count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        self._terms = draw.integers(0, 2**64, count, dtype=np.uint64)

    def shingles(self, text: str) -> Ints:
        """The distinct runs of words of a text as sorted 64-bit hashes, (n,).

        Of a text of fewer words, all of them are one run; a text without a word is one by itself. Two different runs
        among a million share a hash with a probability of 3 in 10^8.
        """
        words = shingle_words_of(text) or [text]
        numbers: dict[str, int] = {}
        ids = [numbers.setdefault(word, len(numbers)) for word in words]
        values = np.array([_word_hash(word) for word in numbers], dtype=np.uint64)[ids]
        length = min(self.config.shingle_words, len(words))
        runs = values[: len(values) - length + 1]
        for offset in range(1, length):
            runs = _mixed(runs) * _STEP + values[offset : len(values) - length + 1 + offset]
        return np.unique(_mixed(runs + np.uint64(length)))

    def signature(self, shingles: Ints) -> Ints:
        """The least hash of ``shingles`` under each function, uint32 (bands * rows,)."""
        least = np.full(len(self._factors), 2**32 - 1, dtype=np.uint32)
        for start in range(0, len(shingles), _ROWS_AT_ONCE):
            part = shingles[start : start + _ROWS_AT_ONCE, None]
            hashes = (part * self._factors + self._terms) >> np.uint64(32)
            np.minimum(least, hashes.min(axis=0).astype(np.uint32), out=least)
        return least

    def bands(self, shingles: Ints) -> Ints:
        """Each band of the signature as one 64-bit hash, (bands,)."""
        rows = self.signature(shingles).astype(np.uint64).reshape(self.config.bands, self.config.rows)
        keys = np.zeros(len(rows), dtype=np.uint64)
        for row in rows.T:
            keys = _mixed(keys * _STEP + row + np.uint64(1))
        return keys


@lru_cache(maxsize=1 << 16)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _mixed(values: Ints) -> Ints:
    """Every bit of a value made to depend on every other (the finalizer of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Ints = values ^ (values >> np.uint64(31))
    return mixed
