"""One split's files as one long sequence of token ids."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import numpy as np

from folio.errors import DataError
from folio.shards.access import Access, ReadFiles, open_files
from folio.shards.access import Ids as Ids
from folio.shards.format import Header, IdType
from folio.shards.watch import ReadWatch


class TokenStream:
    """The ids of one split, in order, across its files.

    A file is opened when it is first read; the operating system keeps what is used in memory and drops the rest, so a
    stream of any length costs no memory of its own. ``access`` "map" gives views of memory maps, "read" copies of what
    is asked for: the same ids. Read by one thread at a time.
    """

    def __init__(self, files: Sequence[tuple[Path, Header]], access: Access = "map") -> None:
        self._files = tuple(files)
        self._contents = open_files(self._files, access)
        self._watch: ReadWatch | None = None
        self.access = access
        self._starts = (0, *accumulate(header.tokens for _, header in self._files))

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def dtype(self) -> IdType:
        return self._files[0][1].dtype

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for path, _ in self._files)

    def read(self, start: int, count: int) -> Ids:
        """Ids ``start`` to ``start + count``, (count,), in the files' own type and not to be written to.

        Within one mapped file this is a view; else a copy of just these ids.
        Raises :class:`DataError` when the stream does not hold them all, :class:`OSError` when a file cannot be read.
        """
        if start < 0 or count < 0 or start + count > len(self):
            raise DataError(
                f"tokens {start:,} to {start + count:,} were asked of a stream of {len(self):,}", "Ask for fewer."
            )
        parts = []
        index = bisect_right(self._starts, start) - 1
        while count > 0:
            taken = min(count, self._starts[index + 1] - start)
            if taken:
                parts.append(self._part(index, start - self._starts[index], taken))
            start, count, index = start + taken, count - taken, index + 1
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, dtype=self.dtype)

    def blocks(self, tokens: int = 4_000_000) -> Iterator[Ids]:
        """The whole stream in consecutive pieces of at most ``tokens`` ids."""
        for start in range(0, len(self), tokens):
            yield self.read(start, min(tokens, len(self) - start))

    def by(self, access: Access) -> TokenStream:
        """The same ids, read in that way."""
        return TokenStream(self._files, access)

    def expect_neighbours(self) -> None:
        """From now on, have the system fetch what lies around each read along with it; a map does so by itself."""
        if isinstance(self._contents, ReadFiles):
            self._contents.around = True

    @contextmanager
    def watched_by(self, watch: ReadWatch) -> Iterator[None]:
        """Inside, what cannot be read is tried again, and ``watch`` knows of every read under way."""
        self._watch = watch
        try:
            yield
        finally:
            self._watch = None

    def _part(self, index: int, start: int, count: int) -> Ids:
        if self._watch is None:
            return self._contents.read(index, start, count)
        return self._watch.read(
            self._files[index][0],
            lambda: self._contents.read(index, start, count).copy(),  # touches what is mapped here and now
            lambda: self._contents.forget(index),
        )
