"""Text from ids that arrive one at a time, as soon as it is certain."""

from __future__ import annotations

import codecs

from folio.tokenizer.base import Tokenizer
from folio.tokenizer.words import WordTokenizer


class StreamDecoder:
    """Give it ids one by one; what it returns, with :meth:`flush` at the end, adds up to ``tokenizer.decode(ids)``.

    Bytes are held back until they are whole characters, and an apostrophe between words until the next word shows
    where its spaces belong. Under word tokens the space before a word comes with that word.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._line: list[int] = []
        self._shown = ""

    def push(self, id: int) -> str:
        """The text that ``id`` makes certain, possibly none."""
        if not isinstance(self._tokenizer, WordTokenizer):
            return self._utf8.decode(self._tokenizer.token_bytes(id))
        token = self._tokenizer.token(id)
        self._line.append(id)
        text = "" if token in ("'", "’") else self._certain()
        if token == "\n":  # spacing never looks back past a line
            self._line, self._shown = [id], self._tokenizer.decode([id])
        return text

    def flush(self) -> str:
        """What was held back; the decoder then begins anew."""
        rest = self._certain() if self._line else self._utf8.decode(b"", final=True)
        self._utf8.reset()
        self._line, self._shown = [], ""
        return rest

    def _certain(self) -> str:
        text = self._tokenizer.decode(self._line)
        new, self._shown = text[len(self._shown) :], text
        return new
