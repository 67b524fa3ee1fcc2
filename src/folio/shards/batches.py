"""From a stream of ids to what a model reads: batches for training, windows for evaluation.

T block_size. A window is T + 1 ids: the first T are inputs, the last T their targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from folio.errors import ConfigError, DataError
from folio.shards.order import CHUNKS_IN_A_GROUP, LocalOrder
from folio.shards.permutation import Permutation, derived_numbers
from folio.shards.stream import Ids, TokenStream

Int64s = NDArray[np.int64]


class Batches:
    """Every batch of a training run, as a pure function of (stream, seed, step).

    An epoch cuts the stream into windows that begin T apart and visits each once, in an order of its own. Where the
    first window begins (the phase) changes by epoch as well, so that the same text is cut at other places. A batch
    that reaches past the end of an epoch takes the rest from the next. Nothing is remembered between calls: any step
    can be asked for, by any rank, in any order.

    ``sequences`` is the number of windows in the whole batch of a step, over all ranks and micro-batches. ``order``
    "shuffled" permutes all windows of an epoch, "local" those of about ``order_bytes`` of ids at a time
    (:class:`~folio.shards.order.LocalOrder`), from 16 places of the stream or more.
    Raises :class:`DataError` for a stream shorter than one window.
    """

    def __init__(
        self,
        stream: TokenStream,
        block_size: int,
        sequences: int,
        seed: int,
        order: Literal["shuffled", "local"] = "shuffled",
        order_bytes: int = 2**30,
    ) -> None:
        for name, value in (("block_size", block_size), ("sequences", sequences), ("order_bytes", order_bytes)):
            if value < 1:
                raise ConfigError(f"{name} is {value}", "Give at least 1.")
        if len(stream) < block_size + 1:
            raise DataError(
                f"the stream holds {len(stream):,} tokens; one window of block_size {block_size:,} needs "
                f"{block_size + 1:,}",
                "Use a smaller block_size, or more text.",
            )
        self.stream = stream
        self.block_size = block_size
        self.sequences = sequences
        self.seed = seed
        # One window is held back so that every phase has room for the same number of windows.
        self.windows_per_epoch = max(1, len(stream) // block_size - 1)
        self._phases = min(block_size, len(stream) - self.windows_per_epoch * block_size)
        self._chunk = 0
        """Windows in each chunk of the local order; 0: all are shuffled."""
        if order == "local":
            self._chunk = max(1, order_bytes // (CHUNKS_IN_A_GROUP * block_size * stream.dtype.itemsize))
            stream.expect_neighbours()

    def batch(self, step: int, rows: slice | Int64s = slice(None)) -> Int64s:
        """The ids of ``rows`` of the batch of ``step`` (from 0), int64 (rows, T + 1).

        ``rows`` selects from ``0 .. sequences - 1`` as it would from an array. Only these rows are read, in the order
        in which they lie in the files; whatever the choice, row *r* is the same.
        """
        starts = self.window_starts(step, rows)
        out = np.empty((len(starts), self.block_size + 1), dtype=np.int64)
        for row in np.argsort(starts, kind="stable"):
            out[row] = self.stream.read(int(starts[row]), self.block_size + 1)
        return out

    def tokens_before(self, step: int) -> int:
        """Tokens that a model has read when ``step`` begins."""
        return step * self.sequences * self.block_size

    def window_starts(self, step: int, rows: slice | Int64s = slice(None)) -> Int64s:
        """Where in the stream the window of each of ``rows`` of the batch of ``step`` begins, int64 (rows,)."""
        assert step >= 0
        number = step * self.sequences + np.arange(self.sequences, dtype=np.int64)[rows]
        epoch, position = np.divmod(number, self.windows_per_epoch)
        starts = np.empty_like(number)
        for one in np.unique(epoch).tolist():
            of_one = epoch == one
            order = _order(self.windows_per_epoch, self._chunk, self.seed, one)
            starts[of_one] = self.phase(one) + order(position[of_one]) * self.block_size
        return starts

    def phase(self, epoch: int) -> int:
        """Where the first window of ``epoch`` begins, in ``0 .. T - 1``."""
        return derived_numbers(1, "folio phase", self.seed, epoch)[0] % self._phases


@lru_cache(maxsize=2)
def _order(windows: int, chunk: int, seed: int, epoch: int) -> Callable[[Int64s], Int64s]:
    """The order of one epoch, a pure function; kept, since the local one is a table."""
    if chunk:
        return LocalOrder(windows, chunk, CHUNKS_IN_A_GROUP, seed, epoch)
    return Permutation(windows, seed, epoch)


class EvaluationWindows:
    """Windows that cover every target of a stream exactly once, in order; the last may be short.

    Window *i* reads ids ``i * T`` to ``i * T + T + 1``. Every id but the stream's first is a target.
    """

    def __init__(self, stream: TokenStream, block_size: int) -> None:
        if block_size < 1:
            raise ConfigError(f"block_size is {block_size}", "Give at least 1.")
        if len(stream) < 2:
            raise DataError(f"the stream holds {len(stream)} tokens; a target needs 2", "Use more text.")
        self.stream = stream
        self.block_size = block_size
        self.targets = len(stream) - 1

    def __len__(self) -> int:
        return -(-self.targets // self.block_size)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self.read(index) for index in range(len(self)))

    def read(self, index: int) -> Ids:
        """Window ``index``, int64 (T + 1,), or shorter for the last."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = index * self.block_size
        return self.stream.read(start, min(self.block_size + 1, len(self.stream) - start)).astype(np.int64)


def evaluation_windows(stream: TokenStream, block_size: int) -> EvaluationWindows:
    """Windows of at most ``block_size`` targets that cover every target of ``stream`` exactly once."""
    return EvaluationWindows(stream, block_size)
