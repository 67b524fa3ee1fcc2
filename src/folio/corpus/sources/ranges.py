"""A file of which any range of bytes can be fetched, as a stream; and a stream whose sha256 is compared at its end."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import IO, Any

from folio.corpus.files import Damaged

Fetch = Callable[[int, int], bytes]
"""``fetch(start, stop)``: exactly those bytes, or an error of the user's."""


class RangeReader(io.RawIOBase):
    """The ``size`` bytes behind ``fetch``, seekable; at least ``block_bytes`` are fetched at a time, and one such
    block is held."""

    def __init__(self, fetch: Fetch, size: int, block_bytes: int) -> None:
        self._fetch = fetch
        self._size = size
        self._block_bytes = block_bytes
        self._at = 0
        self._held_from = 0
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        count = min(len(target), self._size - self._at)
        if count <= 0:
            return 0
        if not self._held_from <= self._at < self._held_from + len(self._held):
            stop = min(self._size, self._at + max(count, self._block_bytes))
            self._held = memoryview(b"")
            self._held, self._held_from = memoryview(self._fetch(self._at, stop)), self._at
        found = self._held[self._at - self._held_from :][:count]
        target[: len(found)] = found
        self._at += len(found)
        return len(found)


class WrongSum(Damaged):
    """Content whose sha256 is another than was planned."""


class SummedReader(io.RawIOBase):
    """``raw`` read once, from its start; when its end is met, :class:`WrongSum` if its sha256 is not ``expected``."""

    def __init__(self, raw: IO[bytes], expected: str, path: object) -> None:
        self._raw = raw
        self._expected = expected
        self._path = path
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        content = self._raw.read(len(target))
        self._digest.update(content)
        if not content and self._digest.hexdigest() != self._expected:
            problem = f"'{self._path}' is damaged: its sha256 is not the one it was planned with"
            raise WrongSum(problem, "Get it again.")
        target[: len(content)] = content
        return len(content)
