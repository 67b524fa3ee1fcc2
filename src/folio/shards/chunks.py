"""From documents to chunks of about a mebibyte: what one process encodes at a time.

The cutting depends on the documents and the tokenizer alone, so that a chunk's number is a place to resume from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from folio.errors import DataError

if TYPE_CHECKING:
    from folio.corpus import Document
    from folio.tokenizer import Tokenizer

CHUNK_BYTES = 1 << 20
PIECE_CHARACTERS = 1 << 20
CHECKED_CHARACTERS = 64


class Piece(NamedTuple):
    """A document's text, or a part of it, and how many bytes of UTF-8 it is."""

    document: str
    starts_document: bool
    text: str
    text_bytes: int


@dataclass(frozen=True, slots=True)
class ChunkCounts:
    """What a chunk adds to its split. ``digest`` is that of all documents up to its end: text, name and boundaries."""

    documents: int
    text_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive pieces that one process encodes at a time."""

    pieces: tuple[Piece, ...]
    counts: ChunkCounts


def chunks_of(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    on_note: Callable[[str], None] = lambda note: None,
    *,
    digested: bool = True,
) -> Iterator[Chunk]:
    """``documents`` in order as chunks of at least ``CHUNK_BYTES`` (the last may be less).

    ``on_note`` is told of a document too long for a chunk that has to be encoded in one piece all the same. Digests
    are empty unless ``digested``: they cost a hundredth of what encoding does.
    Raises :class:`DataError` for a document that cannot be read or is not Unicode text.
    """
    pieces: list[Piece] = []
    size, digest = 0, ""
    for piece in _pieces(documents, tokenizer, on_note):
        pieces.append(piece)
        size += piece.text_bytes
        if size >= CHUNK_BYTES:
            digest = _digest(pieces, digest) if digested else ""
            yield _chunk(pieces, size, digest)
            pieces, size = [], 0
    if pieces:
        yield _chunk(pieces, size, _digest(pieces, digest) if digested else "")


def _chunk(pieces: list[Piece], size: int, digest: str) -> Chunk:
    return Chunk(tuple(pieces), ChunkCounts(sum(piece.starts_document for piece in pieces), size, digest))


def _digest(pieces: list[Piece], before: str) -> str:
    state = hashlib.sha256(before.encode())
    for piece in pieces:
        name = piece.document.encode("utf-8", "surrogatepass")
        state.update(f"{piece.starts_document}:{len(name)}:{piece.text_bytes}:".encode())
        state.update(name)
        state.update(piece.text.encode("utf-8"))
    return state.hexdigest()


def _pieces(documents: Iterable[Document], tokenizer: Tokenizer, on_note: Callable[[str], None]) -> Iterator[Piece]:
    for document in _read(documents):
        starts = True
        for text in safe_pieces(document.text, tokenizer):
            try:
                size = len(text) if text.isascii() else len(text.encode("utf-8"))
            except UnicodeEncodeError:
                raise DataError(
                    f"document '{document.id}' is not Unicode text: it holds half of a surrogate pair",
                    "Mend or remove the document.",
                ) from None
            if len(text) > 3 * PIECE_CHARACTERS:
                on_note(f"document '{document.id}' has no safe place to cut: {len(text):,} characters in one piece")
            yield Piece(document.id, starts, text, size)
            starts = False


def _read(documents: Iterable[Document]) -> Iterator[Document]:
    """``documents``, with a file that vanishes or cannot be read as an error of the user's."""
    last = "the first document"
    try:
        for document in documents:
            yield document
            last = f"what follows document '{document.id}'"
    except OSError as error:
        name = f"'{error.filename}'" if error.filename else last
        reason = error.strerror or type(error).__name__
        raise DataError(
            f"{name} cannot be read: {reason}",
            "Put it back and run the same command again: what is done is kept.",
        ) from None


def safe_pieces(text: str, tokenizer: Tokenizer) -> Iterator[str]:
    """``text`` in pieces of about ``PIECE_CHARACTERS`` whose ids, one after the other, are those of the whole.

    It is cut only before a space or line feed that stands between two letters. The patterns of GPT-2, GPT-4 and
    Llama 3, and those of the char and word tokenizers, always begin a new piece there, whatever surrounds it. Because a
    foreign tokenizer may do otherwise (a prefix space, say), each place is first tried on the text around it. From
    where no place is found, the rest stays whole.
    """
    start = 0
    while len(text) - start > 2 * PIECE_CHARACTERS:
        cut = _boundary(text, start + PIECE_CHARACTERS)
        if cut is None or not _cuts_cleanly(text, cut, tokenizer):
            break
        yield text[start:cut]
        start = cut
    yield text[start:] if start else text


def _boundary(text: str, start: int) -> int | None:
    """The first place from ``start`` on that holds a space or line feed between two letters."""
    for blank in (" ", "\n"):
        at = text.find(blank, start)
        while at != -1 and at + 1 < len(text):
            if text[at - 1].isalpha() and text[at + 1].isalpha():
                return at
            at = text.find(blank, at + 1)
    return None


def _cuts_cleanly(text: str, cut: int, tokenizer: Tokenizer) -> bool:
    left, right = text[cut - CHECKED_CHARACTERS : cut], text[cut : cut + CHECKED_CHARACTERS]
    apart = np.concatenate([tokenizer.encode_array(left), tokenizer.encode_array(right)])
    return np.array_equal(tokenizer.encode_array(left + right), apart)
