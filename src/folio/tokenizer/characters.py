"""One id a character (a Unicode code point)."""

from __future__ import annotations

import unicodedata
from functools import cached_property

import numpy as np

from folio.errors import DataError
from folio.tokenizer.base import END_OF_TEXT, Tokenizer, settings_for, spec_of, well_formed
from folio.tokenizer.patterns import CHARACTER_PATTERN


class CharTokenizer(Tokenizer):
    """Characters in the order of their code points, then end-of-text, which is the last id."""

    kind = "char"
    pattern = CHARACTER_PATTERN

    @classmethod
    def of(cls, characters: set[str]) -> CharTokenizer:
        """The tokenizer of these ``characters``."""
        from tokenizers import Regex, decoders, models, pre_tokenizers
        from tokenizers import Tokenizer as Backend

        vocabulary = {token: id for id, token in enumerate([*sorted(characters), END_OF_TEXT])}
        backend = Backend(models.WordLevel(vocabulary, unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(CHARACTER_PATTERN), behavior="isolated")
        backend.decoder = decoders.Fuse()
        return cls(spec_of(backend, [END_OF_TEXT]), settings_for(unknown=None))

    @cached_property
    def _id_of_code_point(self) -> np.ndarray:
        """(0x110000,) int32: the id of each code point, -1 where it has none."""
        ids = np.full(0x110000, -1, dtype=np.int32)
        for token, id in self._ids.items():
            if len(token) == 1:
                ids[ord(token)] = id
        return ids

    def _encode_plain(self, text: str) -> list[int]:
        text = well_formed(text)
        try:
            return [self._ids[char] for char in text]
        except KeyError as missing:
            raise self._unknown(text, missing.args[0]) from None

    def _encode_plain_array(self, text: str) -> np.ndarray:
        text = well_formed(text)
        ids = self._id_of_code_point[np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)]
        if (ids < 0).any():
            raise self._unknown(text, text[int(np.argmax(ids < 0))])
        return ids.astype(self.dtype)

    def _unknown(self, text: str, char: str) -> DataError:
        name = unicodedata.name(char, "unnamed")
        return DataError(
            f"this char tokenizer has no {char!r} (U+{ord(char):04X} {name}), met at character {text.index(char):,}",
            "Write the text without it, or train the tokenizer on text that has it (or use kind bpe, which has all).",
        )

    def token_bytes(self, id: int) -> bytes:
        return self.token(id).encode()
