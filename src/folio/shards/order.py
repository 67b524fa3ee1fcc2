"""An order of windows in which those of a few places of the stream come together, so that few pages are in use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from folio.shards.permutation import Permutation

CHUNKS_IN_A_GROUP = 16
"""Places of the stream that are mixed at a time."""


class LocalOrder:
    """A bijection of ``0 .. size - 1`` onto itself, chosen by ``names``, that stays within one group for a while.

    The indices are cut into chunks of ``chunk`` that follow one another, the last perhaps shorter. The chunks come in a
    permuted order, and every ``group`` of them that follow one another in that order are permuted among themselves. So
    each index comes once, and a group is at an end before the next begins: never are more than ``group`` chunks begun
    and not done with.

    Holds three numbers a chunk: 2 TB in chunks of 64 MiB are 30,000 of them.
    """

    def __init__(self, size: int, chunk: int, group: int, *names: object) -> None:
        assert size >= 1
        assert chunk >= 1
        assert group >= 1
        self.size = size
        self._chunk = chunk
        self._names = names
        chunks = -(-size // chunk)
        self._chunks = Permutation(chunks, "chunks", *names)(np.arange(chunks, dtype=np.int64))
        lengths = np.minimum(chunk, size - self._chunks * chunk)
        self._starts = np.concatenate([[0], lengths.cumsum()])
        """The position at which the chunk of each place in the order begins; then ``size``."""
        self._group_starts = np.append(self._starts[:-1:group], size)

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The index at each of ``positions``, each in ``0 .. size - 1``; any shape."""
        indices = np.empty_like(positions)
        groups = np.searchsorted(self._group_starts, positions, side="right") - 1
        for group in np.unique(groups).tolist():
            of_one = groups == group
            start, end = self._group_starts[group : group + 2].tolist()
            mixed = Permutation(end - start, "group", *self._names, group)(positions[of_one] - start) + start
            places = np.searchsorted(self._starts, mixed, side="right") - 1
            indices[of_one] = self._chunks[places] * self._chunk + mixed - self._starts[places]
        return indices
