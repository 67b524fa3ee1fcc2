"""The documents of a stream of ids in runs of about one length, in an order drawn for each epoch, without an index."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np

from folio.errors import DataError
from folio.shards.permutation import Permutation
from folio.shards.stream import TokenStream

SEARCHED_IDS = 4096
_BATCH = 1024


class Runs:
    """A stream's documents, each of which begins with ``eot_id``.

    Run k is the documents that begin in ids ``k * size`` to ``(k + 1) * size``: it may be empty, and ends where its
    last document does. So where a run lies is found on the spot, whatever the length of the stream. Ids before the
    first end-of-text belong to a document that began elsewhere, and to no run. :class:`DataError` if there is none.
    """

    def __init__(self, stream: TokenStream, eot_id: int, size: int, name: str) -> None:
        self.stream = stream
        self._eot_id = eot_id
        self._size = size
        self.begin = self.next_document(0)
        if self.begin == len(stream):
            raise DataError(
                f"'{name}' has no end-of-text id ({eot_id}), so its documents cannot be told apart",
                "Check that this is the tokenizer that made it.",
            )

    @property
    def tokens(self) -> int:
        """Ids in all runs."""
        return len(self.stream) - self.begin

    def endless(self, *names: object) -> Iterator[tuple[int, int]]:
        """Where runs begin and end, epoch after epoch; ``names`` (a seed, say) and the epoch choose the order."""
        number = -(-self.tokens // self._size)
        for epoch in count():
            order = Permutation(number, *names, epoch)
            for start in range(0, number, _BATCH):
                for run in order(np.arange(start, min(start + _BATCH, number))).tolist():
                    if (bounds := self._bounds(run)) is not None:
                        yield bounds

    def next_document(self, at: int) -> int:
        """Where the first document from ``at`` on begins, or the end of the stream."""
        size = SEARCHED_IDS
        while at < len(self.stream):
            ids = self.stream.read(at, min(size, len(self.stream) - at))
            if len(found := np.flatnonzero(ids == self._eot_id)):
                return at + int(found[0])
            at += len(ids)
            size = min(2 * size, 1 << 20)
        return len(self.stream)

    def _bounds(self, run: int) -> tuple[int, int] | None:
        start = self.begin + run * self._size
        stop = min(start + self._size, len(self.stream))
        begins = np.flatnonzero(self.stream.read(start, stop - start) == self._eot_id)
        return (start + int(begins[0]), self.next_document(stop)) if len(begins) else None
