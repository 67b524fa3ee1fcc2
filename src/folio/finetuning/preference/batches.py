"""Batches of pairs: each pair once an epoch, with what the reference gave its answers."""

from __future__ import annotations

from collections.abc import Sequence

from folio.errors import DataError
from folio.finetuning.order import Int64s, ShuffledEpochs
from folio.finetuning.preference.pairs import Pair
from folio.finetuning.preference.reference import Reference
from folio.finetuning.preference.rows import PreferenceRows, rows_of


class PreferenceBatches(ShuffledEpochs):
    """Every batch of a preference run, as a pure function of (pairs, seed, step); a row is a pair.

    ``sequences`` is the number of pairs of the whole batch of a step, over all ranks and micro-batches. No call
    depends on another: any step can be asked for, by any rank, in any order.

    :class:`DataError` without pairs, with an answer longer than ``block_size`` (``pairs.fitted_pair`` makes it fit),
    and for a ``reference`` of other pairs.
    """

    def __init__(self, pairs: Sequence[Pair], reference: Reference, block_size: int, sequences: int, seed: int) -> None:
        if not pairs:
            raise DataError("there are no pairs to make rows of", "Give at least one.")
        for pair in pairs:
            longer = max(pair.chosen.length, pair.rejected.length)
            if longer > block_size:
                raise DataError(
                    f"an answer of pair '{pair.id}' takes {longer:,} places and the context has {block_size:,}",
                    "Truncate or drop it first.",
                )
        reference.check(pairs)
        super().__init__([pair.length for pair in pairs], sequences, seed)
        self.pairs = pairs
        self.reference = reference
        self.block_size = block_size
        self.learned_tokens = sum(pair.learned_tokens for pair in pairs)
        """Targets of an epoch."""

    def batch(self, step: int, rows: slice | Int64s = slice(None)) -> PreferenceRows:
        """The chosen ``rows`` of the batch of ``step`` (from 0).

        ``rows`` selects from ``0 .. sequences - 1`` as it would from an array; row *r* is the same for any choice.
        """
        numbers = self.row_numbers(step)[rows]
        return rows_of([self.pairs[number] for number in numbers], self.reference.log_p[:, numbers])
