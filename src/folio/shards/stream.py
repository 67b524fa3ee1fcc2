"""One split's files as one long sequence of token ids, memory-mapped."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from folio.errors import DataError
from folio.shards.format import HEADER_BYTES, Header, IdType

Ids = NDArray[Any]


class TokenStream:
    """The ids of one split, in order, across its files.

    A file is mapped when it is first read; the operating system keeps what is used in memory and drops the rest, so a
    stream of any length costs no memory of its own.
    """

    def __init__(self, files: Sequence[tuple[Path, Header]]) -> None:
        self._files = tuple(files)
        self._maps: dict[int, Ids] = {}
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

        Within one file this is a view of the mapped file; across files, a copy of just these ids.
        Raises :class:`DataError` when the stream does not hold them all.
        """
        if start < 0 or count < 0 or start + count > len(self):
            raise DataError(
                f"tokens {start:,} to {start + count:,} were asked of a stream of {len(self):,}", "Ask for fewer."
            )
        parts = []
        index = bisect_right(self._starts, start) - 1
        while count > 0:
            offset = start - self._starts[index]
            part = self._map(index)[offset : offset + count]
            parts.append(part)
            start, count, index = start + len(part), count - len(part), index + 1
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, dtype=self.dtype)

    def blocks(self, tokens: int = 4_000_000) -> Iterator[Ids]:
        """The whole stream in consecutive pieces of at most ``tokens`` ids."""
        for start in range(0, len(self), tokens):
            yield self.read(start, min(tokens, len(self) - start))

    def _map(self, index: int) -> Ids:
        if index not in self._maps:
            path, header = self._files[index]
            if header.tokens == 0:
                return np.empty(0, dtype=header.dtype)
            mapped = np.memmap(path, dtype=header.dtype, mode="r", offset=HEADER_BYTES, shape=(header.tokens,))
            self._maps[index] = np.asarray(mapped)  # the plain array: slicing a memmap is ten times slower
        return self._maps[index]
