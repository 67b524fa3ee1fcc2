"""Documents whose text equals that of an earlier one, by 128 bits of sha256."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from folio.corpus.document import Document
from folio.corpus.quality.verdict import Fault

Ints = NDArray[Any]
DIGEST_BYTES = 16
DIGEST = np.dtype(f"S{DIGEST_BYTES}")
_NEW = 1 << 16


def text_digest(text: str) -> bytes:
    """The first 16 bytes of the sha256 of the text. Among a billion, two share it once in 10^20 times."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:DIGEST_BYTES]


class Digests:
    """A growing set of 16-byte digests: 16 bytes each, twice that while parts are merged, and 8 MB for the newest.

    A set of Python's own takes about 100 bytes each. The newest 65,536 are in one, the others in sorted arrays, each
    at least twice as long as the next, so that a search looks into log2(n / 65,536) of them.
    """

    def __init__(self) -> None:
        self._new: set[bytes] = set()
        self._sorted: list[Ints] = []

    def __len__(self) -> int:
        return len(self._new) + sum(map(len, self._sorted))

    @property
    def held_bytes(self) -> int:
        """Of the sorted arrays."""
        return sum(array.nbytes for array in self._sorted)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._new or any(holds(array, digest) for array in self._sorted)

    def add(self, digest: bytes) -> bool:
        """Take ``digest`` in; whether it is new."""
        if digest in self:
            return False
        self._new.add(digest)
        if len(self._new) >= _NEW:
            merged = np.sort(np.array(list(self._new), dtype=DIGEST))
            self._new = set()
            while self._sorted and len(self._sorted[-1]) < 2 * len(merged):
                merged = np.concatenate([self._sorted.pop(), merged])
                merged.sort(kind="stable")
            self._sorted.append(merged)
        return True


def holds(array: Ints, digest: bytes) -> bool:
    """Whether a sorted array of digests has one."""
    place = int(np.searchsorted(array, np.array(digest, dtype=DIGEST)))
    return place < len(array) and bool(array[place] == np.array(digest, dtype=DIGEST))


class ExactDuplicates:
    """Finds every document whose text was met before. Which of equal ones stays (all but its name is the same) depends
    on the order of the walk, so one process walks all documents."""

    def __init__(self) -> None:
        self.met = Digests()

    def fault(self, document: Document) -> Fault | None:
        return None if self.met.add(text_digest(document.text)) else Fault("duplicate")
