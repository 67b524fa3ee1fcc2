"""From examples to what a model reads: rows of whole examples.

R rows, T block_size
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from folio.errors import ConfigError, DataError
from folio.finetuning.examples import Example
from folio.finetuning.order import Int64s, ShuffledEpochs
from folio.finetuning.packing import best_fit_decreasing, padding_share
from folio.model.loss import IGNORE

PADDING = 0
"""The id that stands where a row holds no example; its target is IGNORE."""


@dataclass(frozen=True, slots=True, eq=False)
class PackedRows:
    """Rows of examples that lie one after another from the left, padding after them.

    ``ids``, int64 (R, T), are inputs; ``targets``, int64 (R, T), the id that follows each within its example, IGNORE
    where it is not learned and on padding; ``lengths[r]`` the places that each example of row r takes, ``members[r]``
    which of all examples each is.
    """

    ids: Int64s
    targets: Int64s
    lengths: tuple[tuple[int, ...], ...]
    members: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        """Places that hold an example."""
        return sum(map(sum, self.lengths))

    @property
    def learned_tokens(self) -> int:
        """Targets that are learned."""
        return int((self.targets != IGNORE).sum())


class _Rows:
    """The fixed rows that a set of examples fills, packed or one each; ``members[r]`` are those of row r by index."""

    def __init__(self, examples: Sequence[Example], block_size: int, packing: bool) -> None:
        if block_size < 1:
            raise ConfigError(f"block_size is {block_size}", "Give at least 1.")
        if not examples:
            raise DataError("there are no examples to make rows of", "Give at least one.")
        for example in examples:
            if example.length > block_size:
                raise DataError(
                    f"example '{example.id}' takes {example.length:,} places and a row has {block_size:,}",
                    "Truncate or drop it first.",
                )
        self.examples = examples
        self.block_size = block_size
        lengths = [example.length for example in examples]
        alone = [(index,) for index in range(len(examples))]
        self.members = best_fit_decreasing(lengths, block_size) if packing else alone
        self.tokens = [sum(lengths[index] for index in row) for row in self.members]
        self.padding_share = padding_share(lengths, len(self.members), block_size)

    def read(self, rows: Sequence[int]) -> PackedRows:
        ids = np.full((len(rows), self.block_size), PADDING, dtype=np.int64)
        targets = np.full((len(rows), self.block_size), IGNORE, dtype=np.int64)
        lengths = []
        for place, row in enumerate(rows):
            start = 0
            held = [self.examples[index] for index in self.members[row]]
            for example in held:
                end = start + example.length
                ids[place, start:end] = example.ids[:-1]
                targets[place, start:end] = np.where(example.learned[1:], example.ids[1:], IGNORE)
                start = end
            lengths.append(tuple(example.length for example in held))
        return PackedRows(ids, targets, tuple(lengths), tuple(tuple(self.members[row]) for row in rows))


class SftBatches(ShuffledEpochs):
    """Every batch of a fine-tuning run, as a pure function of (examples, seed, step).

    The rows are the same in every epoch; their order is a permutation of its own. No call depends on another: any step
    can be asked for, by any rank, in any order. ``sequences`` is the number of rows of the whole batch of a step, over
    all ranks and micro-batches.

    :class:`DataError` without examples, or with one longer than ``block_size`` (``examples.fitted`` makes it fit).
    """

    def __init__(
        self, examples: Sequence[Example], block_size: int, sequences: int, seed: int, packing: bool = True
    ) -> None:
        self._rows = _Rows(examples, block_size, packing)
        super().__init__(self._rows.tokens, sequences, seed)
        self.examples = examples
        self.block_size = block_size
        self.learned_tokens = sum(example.learned_tokens for example in examples)
        """Targets of an epoch."""
        self.padding_share = self._rows.padding_share
        """The part of an epoch's places that hold no example."""

    def batch(self, step: int, rows: slice | Int64s = slice(None)) -> PackedRows:
        """The chosen ``rows`` of the batch of ``step`` (from 0).

        ``rows`` selects from ``0 .. sequences - 1`` as it would from an array; row *r* is the same for any choice.
        """
        return self._rows.read(self.row_numbers(step)[rows].tolist())


def evaluation_rows(
    examples: Sequence[Example], block_size: int, rows: int = 1, packing: bool = True
) -> Iterator[PackedRows]:
    """Every example exactly once, ``rows`` rows at a time, the last time perhaps fewer; always in the same order."""
    if rows < 1:
        raise ConfigError(f"rows is {rows}", "Give at least 1.")
    held = _Rows(examples, block_size, packing)
    numbers = range(len(held.members))
    return (held.read(numbers[start : start + rows]) for start in range(0, len(numbers), rows))
