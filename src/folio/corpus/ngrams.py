"""Which word n-grams of some texts stand in others: an exact index, whatever the texts are and wherever they lie."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[Any]

N = 13
MIN_WORDS = 8
"""GPT-3 (Brown et al. 2020, appendix C) looked for grams of 8 to 13 words, 13 wherever the texts were long enough."""

APOSTROPHES = "'\u2018\u2019\u02bc\u02bb\u2032\uff07`\u00b4"
_ALL_ASCII = bytes(range(128))
_ASCII = bytes(byte if byte > 127 or chr(byte).isalnum() else 32 for byte in range(256))
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MOST_FILTER_BITS = 26


def words_of(text: str) -> list[str]:
    """The words of ``text``: NFC, case folded, cut at all that is no letter, mark or number.

    Apostrophes and invisible characters (soft hyphen, joiners, byte order mark, variation selectors) vanish, so that
    "Don’t" is "dont"; every other character separates, so that neither punctuation nor white space matters.
    """
    return spaced(text).decode().split()


def spaced(text: str) -> bytes:
    """The words of ``text`` (see :func:`words_of`) in UTF-8, with one space or more between them, and maybe around."""
    text = unicodedata.normalize("NFC", text).casefold()
    if not text.isascii():
        for char in set(text.encode(errors="surrogatepass").translate(None, _ALL_ASCII).decode(errors="surrogatepass")):
            if (replaced := _instead(char)) != char:
                text = text.replace(char, replaced)
    return text.encode().translate(_ASCII, b"'`")


@cache
def _instead(char: str) -> str:
    kind = unicodedata.category(char)
    selects_variation = "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"
    if char in APOSTROPHES or kind == "Cf" or selects_variation:
        return ""
    return char if kind[0] in "LMN" else " "


class NgramIndex:
    """The distinct n-grams of some items, numbered, ready to be found in any text.

    An item is one text or several (a question with each of its endings); grams never run from one into the next. A text
    of fewer than ``n`` but at least ``min_words`` words is one gram, all of it; a shorter one has none.

    A gram is found where all its words are, in order, and nowhere else: hashes (``hash_bits`` of them) only say where
    to look.
    """

    def __init__(
        self, items: Iterable[Sequence[str]], n: int = N, min_words: int = MIN_WORDS, hash_bits: int = 64
    ) -> None:
        assert n >= 1
        assert min_words >= 1
        assert 1 <= hash_bits <= 64
        self.n = n
        self.min_words = min(min_words, n)
        self._mask = np.uint64(2**hash_bits - 1)
        self._vocabulary: dict[str, int] = {}
        self._words, places, lengths, owners, self.text_items = self._read(items)
        self.spellings = ["", *self._vocabulary]
        """Of each word that :meth:`encode` numbers."""
        self._values = np.random.default_rng(0).integers(0, 2**64, len(self.spellings), dtype=np.uint64)
        gram_at = np.empty(len(places), dtype=np.int64)
        starts: list[Ints] = [np.empty(0, dtype=np.int32)]
        sizes: list[Ints] = [np.empty(0, dtype=np.int32)]
        self.grams = 0
        for length in np.unique(lengths).tolist():
            chosen = lengths == length
            first, inverse = _distinct(self._words, places[chosen], length)
            gram_at[chosen] = inverse + self.grams
            starts.append(first.astype(np.int32))
            sizes.append(np.full(len(first), length, dtype=np.int32))
            self.grams += len(first)
        self._starts, self.lengths = np.concatenate(starts), np.concatenate(sizes)
        pairs = np.unique(np.stack([owners, gram_at], axis=1), axis=0) if len(owners) else np.empty((0, 2), np.int64)
        pairs = pairs.astype(np.int32)
        self.pair_texts: Ints = pairs[:, 0]
        """With :attr:`pair_grams`: which text holds which gram, once each, by text."""
        self.pair_grams: Ints = pairs[:, 1]
        self._tables = self._made_tables()

    def __getstate__(self) -> dict[str, Any]:
        """All but the tables, which are made again where this is sent to."""
        return {name: value for name, value in vars(self).items() if name != "_tables"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._tables = self._made_tables()

    def _made_tables(self) -> dict[int, _Table]:
        tables = {}
        for length in np.unique(self.lengths).tolist():
            grams = np.flatnonzero(self.lengths == length)  # one after the other
            hashes = self._hashes(self._words, length)[self._starts[grams]]
            tables[length] = _Table(hashes, int(grams[0]))
        return tables

    @property
    def overlap(self) -> int:
        """Words that a text must be followed by for no gram that begins in it to be missed."""
        return max(self._tables, default=1) - 1

    def words(self, gram: int) -> str:
        """The words of a gram, with a space between them."""
        start = int(self._starts[gram])
        return " ".join(self.spellings[word] for word in self._words[start : start + int(self.lengths[gram])])

    def openings(self) -> Ints:
        """The first words of each gram, as numbers, as many as the shortest has: (grams, words)."""
        shortest = min(self._tables, default=1)
        words: Ints = self._words[self._starts[:, None] + np.arange(shortest)]
        return words

    def grams_of_texts(self) -> Ints:
        """How many distinct grams each text has, (texts,); 0 for one that is too short."""
        return np.bincount(self.pair_texts, minlength=len(self.text_items))

    def encode(self, words: Sequence[str]) -> Ints:
        """Words as numbers, int32; 0 for one that no item has. Put a 0 between texts that are not one."""
        return np.fromiter(map(self._vocabulary.get, words, repeat(0)), dtype=np.int32, count=len(words))

    def find(self, words: Ints) -> tuple[Ints, Ints]:
        """Where grams begin in ``words`` (see :meth:`encode`), and which, by place; both (hits,)."""
        hashes = self._values[words]
        values = hashes
        places, grams = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for length in range(1, self.overlap + 2):
            if length > len(words):
                break
            if length > 1:
                hashes = hashes[:-1] * _STEP + values[length - 1 :]
            if length in self._tables:
                for place, gram in self._tables[length].candidates(hashes & self._mask):
                    is_it = self._same(words, place, gram, length)
                    places.append(place[is_it])
                    grams.append(gram[is_it])
        place, gram = np.concatenate(places), np.concatenate(grams)
        order = np.lexsort((gram, place))
        return place[order], gram[order]

    def _read(self, items: Iterable[Sequence[str]]) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        """All words; where grams begin in them, of how many words, of which text; and the item of each text."""
        parts = [np.empty(0, dtype=np.int32)]
        places: list[Ints] = []
        lengths: list[Ints] = []
        owners: list[Ints] = []
        text_items: list[int] = []
        at = self.items = 0
        for texts in items:
            for text in texts:
                words = words_of(text)
                number = [self._vocabulary.setdefault(word, len(self._vocabulary) + 1) for word in words]
                parts.append(np.array(number, dtype=np.int32))
                if len(words) >= self.min_words:
                    length = min(self.n, len(words))
                    begins = np.arange(at, at + len(words) - length + 1)
                    places.append(begins)
                    lengths.append(np.full(len(begins), length))
                    owners.append(np.full(len(begins), len(text_items)))
                text_items.append(self.items)
                at += len(words)
            self.items += 1
        none = [np.empty(0, dtype=np.int64)]
        joined = [np.concatenate(none + part) for part in (places, lengths, owners)]
        return np.concatenate(parts), joined[0], joined[1], joined[2], np.array(text_items, dtype=np.int64)

    def _hashes(self, words: Ints, length: int) -> Ints:
        values = self._values[words]
        hashes = values
        for more in range(1, length):
            hashes = hashes[:-1] * _STEP + values[more:]
        return hashes & self._mask

    def _same(self, words: Ints, place: Ints, gram: Ints, length: int) -> Ints:
        same = np.ones(len(place), dtype=bool)
        for offset in range(length):
            same &= words[place + offset] == self._words[self._starts[gram] + offset]
        return same


class _Table:
    """Grams of one length by hash; several may share one."""

    def __init__(self, hashes: Ints, first_gram: int) -> None:
        order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[order]
        self._grams = order + first_gram
        bits = min(_MOST_FILTER_BITS, max(8, int(8 * len(hashes)).bit_length()))
        self._size = np.uint64(2**bits - 1)
        self._seen = np.zeros(2**bits, dtype=bool)
        self._seen[self._slot(hashes)] = True

    def candidates(self, hashes: Ints) -> Iterable[tuple[Ints, Ints]]:
        """Places and grams with the same hash, in as many turns as the most crowded hash has grams."""
        places = np.flatnonzero(self._seen[self._slot(hashes)])
        chosen = hashes[places]
        first = np.searchsorted(self._hashes, chosen, side="left")
        stop = np.searchsorted(self._hashes, chosen, side="right")
        while (more := first < stop).any():
            places, first, stop = places[more], first[more], stop[more]
            yield places, self._grams[first]
            first = first + 1

    def _slot(self, hashes: Ints) -> Ints:
        slots: Ints = (hashes ^ (hashes >> np.uint64(32))) & self._size
        return slots


def _distinct(words: Ints, places: Ints, length: int) -> tuple[Ints, Ints]:
    """Of the grams at ``places``, where each distinct one is first met, and which one each is."""
    rows = np.lib.stride_tricks.sliding_window_view(words, length)[places]
    keys = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * length))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return places[first], inverse
