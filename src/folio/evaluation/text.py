"""Documents as a stream of ids in memory, laid out as in shards: each document begins with end-of-text."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from folio.corpus import Document
from folio.errors import DataError
from folio.shards import TokenStream
from folio.shards.stream import Ids
from folio.tokenizer import Tokenizer


class IdStream(TokenStream):
    """Ids held in memory."""

    def __init__(self, ids: Ids) -> None:
        super().__init__(())
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    def read(self, start: int, count: int) -> Ids:
        return self._ids[start : start + count]


class TextStream(IdStream):
    """The ids of ``documents`` by ``tokenizer``, and the UTF-8 bytes of their text."""

    def __init__(self, documents: Iterable[Document], tokenizer: Tokenizer) -> None:
        opening = [] if tokenizer.eot_id is None else [np.array([tokenizer.eot_id], dtype=np.int64)]
        parts: list[Ids] = []
        self.documents = self.text_bytes = 0
        for document in documents:
            parts += [*opening, tokenizer.encode_array(document.text)]
            self.documents += 1
            self.text_bytes += len(document.text.encode("utf-8"))
        if not parts:
            raise DataError("there are no documents to score", "Give a text that is not empty.")
        super().__init__(np.concatenate(parts))
