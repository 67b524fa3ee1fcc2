"""One id a word or mark, spaces left out; what is rare or new is ``<unk>``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from folio.tokenizer.base import END_OF_TEXT, Tokenizer, as_ids, settings_for, spec_of, well_formed
from folio.tokenizer.patterns import WORD_PATTERN
from folio.tokenizer.spacing import SPACES_TO_DROP

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

UNKNOWN = "<unk>"

_ASCII_WORDS = re.compile(WORD_PATTERN, re.ASCII)
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
_NO_TOKEN = "##"
"""Begins no token, since a mark is one character: what the ``WordPiece`` decoder wants for "no space before this"."""


class WordTokenizer(Tokenizer):
    r"""Words by ``\w+|[^\w\s]|[\n\t\r\f\v]``, most frequent first, then special tokens, ``<unk>`` and end-of-text.

    Decoding restores ordinary spacing (:mod:`folio.tokenizer.spacing`), not the spacing that was there.
    """

    kind = "word"
    pattern = WORD_PATTERN

    @classmethod
    def of(cls, words: Sequence[str], special: tuple[str, ...] = ()) -> WordTokenizer:
        """The tokenizer in which ``words[i]`` has id ``i``."""
        from tokenizers import Regex, decoders, models
        from tokenizers import Tokenizer as Backend

        added = [*special, UNKNOWN, END_OF_TEXT]
        vocabulary = {token: id for id, token in enumerate([*words, *added])}
        backend = Backend(models.WordLevel(vocabulary, unk_token=UNKNOWN))
        backend.pre_tokenizer = _split()
        backend.decoder = decoders.Sequence(
            [
                decoders.WordPiece(prefix=_NO_TOKEN, cleanup=False),
                decoders.Fuse(),
                decoders.Replace(Regex(SPACES_TO_DROP), ""),
            ]
        )
        return cls(spec_of(backend, added), settings_for(unknown=UNKNOWN))

    @property
    def unk_id(self) -> int:
        """The id of ``<unk>``."""
        return self._ids[UNKNOWN]

    def _encode_plain(self, text: str) -> list[int]:
        ids, unknown = self._ids, self.unk_id
        return [ids.get(word, unknown) for word in words_of(text)]

    def unknown_bytes(self, text: str) -> int:
        return sum(len(well_formed(word).encode()) for word in words_of(text) if word not in self._ids)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        ids = as_ids(ids)
        for id in ids:
            self.token(id)
        text: str = self.backend.decode(ids, skip_special_tokens=False)
        return text

    def decode_bytes(self, ids: Sequence[int] | np.ndarray) -> bytes:
        return self.decode(ids).encode()

    def token_bytes(self, id: int) -> bytes:
        return self.token(id).encode()


def words_of(text: str) -> Iterator[str]:
    r"""The words, marks and line breaks of ``text``.

    What ``\w`` and ``\s`` mean outside ASCII is Oniguruma's to say (it reads ``tokenizer.json`` everywhere and does not
    change with the Python version); lines in plain ASCII, where there is no doubt, are cut by :mod:`re`, ten times
    sooner.
    """
    if text.isascii():
        yield from _ASCII_WORDS.findall(text)
        return
    for line in _LINES.findall(text):
        yield from _ASCII_WORDS.findall(line) if line.isascii() else _words_of_any(line)


def _words_of_any(line: str) -> Iterable[str]:
    return [word for word, _ in _split().pre_tokenize_str(well_formed(line))]


@cache
def _split() -> PreTokenizer:
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="removed", invert=True)
