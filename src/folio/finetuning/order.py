"""In which order rows come: each epoch is a permutation of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from folio.errors import ConfigError
from folio.shards.permutation import Permutation

Int64s = NDArray[np.int64]


class ShuffledEpochs:
    """The rows of every batch, as a pure function of (rows, seed, step).

    ``tokens`` are those of each row, ``sequences`` the rows of the whole batch of a step, over all ranks and
    micro-batches. A batch that reaches past the end of an epoch takes the rest from the next.
    """

    def __init__(self, tokens: Sequence[int], sequences: int, seed: int) -> None:
        if sequences < 1:
            raise ConfigError(f"sequences is {sequences}", "Give at least 1.")
        assert tokens
        self._tokens = np.array(tokens, dtype=np.int64)
        self._running = lru_cache(maxsize=2)(self._running_tokens)  # asked for several times a step
        self.tokens = sum(tokens)
        """Tokens of an epoch."""
        self.sequences = sequences
        self.seed = seed
        self.rows_per_epoch = len(tokens)

    def row_numbers(self, step: int) -> Int64s:
        """Which rows stand in the batch of ``step`` (from 0), int64 (sequences,)."""
        assert step >= 0
        number = step * self.sequences + np.arange(self.sequences, dtype=np.int64)
        epoch, position = np.divmod(number, self.rows_per_epoch)
        rows = np.empty_like(number)
        for one in np.unique(epoch):
            of_one = epoch == one
            rows[of_one] = self._order(int(one))(position[of_one])
        return rows

    def tokens_before(self, step: int) -> int:
        """Tokens that a model has read when ``step`` begins: those of the rows of all steps before it."""
        epochs, rest = divmod(step * self.sequences, self.rows_per_epoch)
        return epochs * self.tokens + (int(self._running(epochs)[rest - 1]) if rest else 0)

    def steps_for(self, epochs: float) -> int:
        """The first step after which every row has come so many times, on average."""
        return max(1, math.ceil(round(epochs * self.rows_per_epoch / self.sequences, 6)))

    def epochs(self, steps: int) -> float:
        """How many times ``steps`` steps show each row, on average."""
        return steps * self.sequences / self.rows_per_epoch

    @property
    def steps_an_epoch(self) -> Fraction:
        """Steps in which every row comes once."""
        return Fraction(self.rows_per_epoch, self.sequences)

    def _running_tokens(self, epoch: int) -> Int64s:
        """Tokens of the first row of ``epoch``, of the first two, and so on, int64 (rows,)."""
        return self._tokens[self._order(epoch)(np.arange(self.rows_per_epoch))].cumsum()

    def _order(self, epoch: int) -> Permutation:
        return Permutation(self.rows_per_epoch, "fine-tuning", self.seed, epoch)
