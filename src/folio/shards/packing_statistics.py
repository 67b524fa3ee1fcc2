"""What rows of a fixed length do to documents: cut them, hide their beginning, waste room, or lose their end.

Three ways to fill rows of T ids from documents of n ids each, the end-of-text id among them:

- **stream**: documents one after another, cut into windows of T wherever they end, as :class:`folio.shards.Batches`
  does. The first window begins at another place each epoch; numbers are expectations over all T places, which depend on
  the lengths alone: a document is cut with probability min(1, (n - 1) / T), into 1 + (n - 1) / T pieces on average, and
  the window of its token j (from 0) has begun after the document with probability min(1, j / T).
- **one document a row**: shorter ones are padded, longer ones lose their end.
- **best fit**: longer ones are cut into rows of T and a rest, and every piece goes, the longest first, where it
  leaves the least room (best-fit decreasing; Ding et al. 2024, "Fewer Truncations Improve Language Modeling").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from folio.errors import ConfigError


@dataclass(frozen=True, slots=True)
class PackingStatistics:
    """Shares are between 0 and 1: of documents, of tokens, or of the room in rows, as their names say."""

    block_size: int
    documents: int
    tokens: int
    """Ids, one end-of-text a document among them."""
    stream_documents_cut: float
    stream_pieces_per_document: float
    stream_tokens_without_beginning: float
    """Share of the tokens in whose window the beginning of their document does not lie."""
    row_padding: float
    row_tokens_lost: float
    row_documents_cut: float
    best_fit_padding: float
    best_fit_rows: int
    best_fit_documents_cut: float

    def record(self) -> dict[str, Any]:
        return asdict(self)


def packing_statistics(lengths: Mapping[int, int], block_size: int) -> PackingStatistics | None:
    """Of documents whose ``lengths`` (in ids, end-of-text left out) occur so often each; None without documents.

    :class:`ConfigError` for a block size below 1.
    """
    if block_size < 1:
        raise ConfigError(f"block size {block_size} is no length", "Give at least 1.")
    size = block_size
    sizes = Counter({length + 1: times for length, times in lengths.items() if times})
    documents = sizes.total()
    if not documents:
        return None
    tokens = sum(length * times for length, times in sizes.items())
    cut = sum(min(1.0, (length - 1) / size) * times for length, times in sizes.items())
    pieces = sum((1 + (length - 1) / size) * times for length, times in sizes.items())
    hidden = sum(_without_beginning(length, size) * times for length, times in sizes.items())
    longer = sum(times for length, times in sizes.items() if length > size)
    kept = sum(min(length, size) * times for length, times in sizes.items())
    rows = best_fit_rows(sizes, size)
    return PackingStatistics(
        block_size=size,
        documents=documents,
        tokens=tokens,
        stream_documents_cut=cut / documents,
        stream_pieces_per_document=pieces / documents,
        stream_tokens_without_beginning=hidden / tokens,
        row_padding=1 - kept / (documents * size),
        row_tokens_lost=1 - kept / tokens,
        row_documents_cut=longer / documents,
        best_fit_padding=1 - tokens / (rows * size),
        best_fit_rows=rows,
        best_fit_documents_cut=longer / documents,
    )


def _without_beginning(length: int, size: int) -> float:
    """Of one document, over all places that windows may begin at: the sum of min(1, j / size) over its tokens j."""
    within = min(length, size)
    return within * (within - 1) / (2 * size) + max(0, length - size)


def best_fit_rows(sizes: Mapping[int, int], block_size: int) -> int:
    """Rows that best-fit decreasing fills with pieces of ``sizes``, each so often; a piece beyond the row is cut first.

    Equal pieces are placed together: the row with the least room that a piece fits in is still that after it took one,
    so it takes as many as fit. Work grows with the different sizes and the different rooms, not with the pieces.
    """
    pieces: Counter[int] = Counter()
    rows = 0
    for size, times in sizes.items():
        rows += size // block_size * times
        if rest := size % block_size:
            pieces[rest] += times
    rooms: Counter[int] = Counter()
    for size in sorted(pieces, reverse=True):
        left = pieces[size]
        for room in sorted(room for room in rooms if room >= size):
            if not left:
                break
            left -= _fill(rooms, room, rooms[room], size, left)
        if left:
            opened = -(-left // (block_size // size))
            rows += opened
            _fill(rooms, block_size, opened, size, left, fresh=True)
    return rows


def _fill(rooms: Counter[int], room: int, count: int, size: int, left: int, *, fresh: bool = False) -> int:
    """Put up to ``left`` pieces into ``count`` rows of one ``room``, one row after another; how many went in."""
    each = room // size
    placed = min(left, each * count)
    full, over = divmod(placed, each)
    used = full + (1 if over else 0)
    if not fresh:
        rooms[room] -= used
        if not rooms[room]:
            del rooms[room]
    if full and room - each * size:
        rooms[room - each * size] += full
    if over:
        rooms[room - over * size] += 1
    return placed
