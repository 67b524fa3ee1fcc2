"""One id a word or mark, spaces left out; what is rare or new is ``<unk>``, or what is rare its nearest word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from folio.errors import ArtifactError
from folio.tokenizer.base import END_OF_TEXT, Tokenizer, as_ids, settings_for, spec_of, well_formed
from folio.tokenizer.nearest import nearest_of, normalizer_of
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

    def __init__(self, spec: dict[str, Any], settings: dict[str, Any]) -> None:
        super().__init__(spec, settings)
        self.nearest: Mapping[str, str] = MappingProxyType(nearest_of(spec.get("normalizer")))
        """Words without an id of their own, and the word that each is read as."""
        special = self.special_ids
        for word, target in self.nearest.items():
            if word in self._ids or target not in self._ids or target in special:
                raise ArtifactError(
                    f"{word!r} is to be read as {target!r}, but only a word without an id can be, as one with an id",
                    "Restore the file, or make the tokenizer again.",
                )
        self._read_as = self._ids | {word: self._ids[target] for word, target in self.nearest.items()}

    @classmethod
    def of(
        cls, words: Sequence[str], special: tuple[str, ...] = (), nearest: Mapping[str, str] | None = None
    ) -> WordTokenizer:
        """The tokenizer in which ``words[i]`` has id ``i``, and each word of ``nearest`` that of the word it names."""
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
        spec = spec_of(backend, added) | {"normalizer": normalizer_of(nearest or {})}
        return cls(spec, settings_for(unknown=UNKNOWN))

    @property
    def unk_id(self) -> int:
        """The id of ``<unk>``."""
        return self._ids[UNKNOWN]

    def _encode_plain(self, text: str) -> list[int]:
        ids, unknown = self._read_as, self.unk_id
        return [ids.get(word, unknown) for word in words_of(text)]

    def unknown_bytes(self, text: str) -> int:
        """UTF-8 bytes of the words that have no id of their own, whether they are ``<unk>`` or read as another."""
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
