"""What a likelihood is measured on: documents as ids, divided into passages that errors can be told from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from folio.corpus import Document
from folio.shards import TokenStream
from folio.tokenizer import Tokenizer
from folio.tokenizer.pieces import pieces

Ids = NDArray[np.int64]

PASSAGE_CHARACTERS = 4096
SHORT_CHARACTERS = 64
"""Where a passage is cut by its ids its bytes are shared out, so that short ones are more exact."""
BLOCK_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Passage:
    """Consecutive ids of one document, and the bytes of text behind them.

    ``number`` counts from 0 within the document. The first is ``opened`` by end-of-text where the tokenizer has it.
    """

    document: str
    number: int
    ids: Ids
    text_bytes: float
    unknown_bytes: int = 0
    opened: bool = False

    @property
    def id(self) -> str:
        return f"{self.document}#{self.number}"


def passages_of(
    documents: Iterable[Document], tokenizer: Tokenizer, characters: int = PASSAGE_CHARACTERS
) -> Iterator[Passage]:
    """Documents in passages of about so many ``characters``, the same text in each whatever the tokenizer.

    They are cut where every tokenizer ends one token and begins another, so the ids are those of the whole.
    """
    opening = [] if tokenizer.eot_id is None else [tokenizer.eot_id]
    for document in documents:
        for number, text in enumerate(pieces(document.text, characters)):
            ids = tokenizer.encode_array(text).astype(np.int64)
            opened = number == 0 and bool(opening)
            if opened:
                ids = np.concatenate([np.array(opening, dtype=np.int64), ids])
            size = len(text.encode("utf-8"))
            yield Passage(document.id, number, ids, size, tokenizer.unknown_bytes(text), opened)


def passages_of_stream(stream: TokenStream, eot_id: int | None, bytes_per_token: float) -> Iterator[Passage]:
    """The documents of shards, numbered from 0, in passages of at most ``BLOCK_TOKENS`` ids.

    A document begins at each end-of-text. Bytes are counted by the mean of the whole split.
    """
    document, number, held = 0, 0, np.empty(0, dtype=np.int64)

    def passage(ids: Ids) -> Passage:
        return Passage(str(document), number, ids, bytes_per_token * len(ids), opened=bool(ids[0] == eot_id))

    for block in stream.blocks():
        ids = np.concatenate([held, block.astype(np.int64)])
        starts = np.flatnonzero(ids == eot_id) if eot_id is not None else np.empty(0, dtype=np.int64)
        start = 0
        for edge in (*starts[starts > 0], None):
            stop = len(ids) if edge is None else int(edge)
            while stop - start > (BLOCK_TOKENS if edge is None else 0):
                yield passage(ids[start : min(stop, start + BLOCK_TOKENS)])
                start, number = min(stop, start + BLOCK_TOKENS), number + 1
            if edge is not None:
                document, number = document + 1, 0
        held = ids[start:]
    if len(held):
        yield passage(held)


def first_tokens(passages: Iterable[Passage], tokens: int) -> Iterator[Passage]:
    """Passages of the first ``tokens`` ids (0: all), the last one cut, its bytes in proportion."""
    left = tokens
    for passage in passages:
        if tokens and len(passage.ids) >= left:
            share = left / len(passage.ids)
            size, unknown = passage.text_bytes * share, round(passage.unknown_bytes * share)
            yield replace(passage, ids=passage.ids[:left], text_bytes=size, unknown_bytes=unknown)
            return
        left -= len(passage.ids)
        yield passage


@dataclass(frozen=True)
class ScoredText:
    """What so many ids stand for: bytes of text, and those of them in words outside the vocabulary."""

    tokens: int
    text_bytes: float
    unknown_bytes: float

    @property
    def bytes_per_token(self) -> float:
        return self.text_bytes / self.tokens

    @property
    def unknown_share(self) -> float:
        """Of the bytes, the part in words outside the vocabulary."""
        return self.unknown_bytes / self.text_bytes if self.text_bytes else 0.0


def scored_text(documents: Iterable[Document], tokenizer: Tokenizer, tokens: int = 0) -> ScoredText:
    """The text of the first ``tokens`` ids (0: of all)."""
    count, size, unknown = 0, 0.0, 0.0
    for passage in first_tokens(passages_of(documents, tokenizer, SHORT_CHARACTERS), tokens):
        count, size, unknown = count + len(passage.ids), size + passage.text_bytes, unknown + passage.unknown_bytes
    return ScoredText(count, size, unknown)
