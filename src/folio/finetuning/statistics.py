"""What the examples are like, counted before training: nothing is left out, cut or padded unseen.

Lengths and tokens are places in rows: the ids of an example but the last.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from folio.finetuning.examples import Encoded, Example, fitted
from folio.finetuning.packing import best_fit_decreasing, padding_share


@dataclass(frozen=True)
class SplitStatistics:
    """Counts of one side of the split."""

    side: str
    documents: int
    """Records of this side, without the duplicates that were left out."""
    examples: int
    """Of them, those that are learned from (or measured on)."""
    duplicates: int
    """Records equal to an earlier one of this side, white space aside."""
    nothing_to_learn: int
    """Left out: no answer, or an empty one."""
    truncated: int
    dropped: int
    """Left out: longer than the context, or nothing learned within it."""
    median_length: float
    """Of all with something to learn, before any is truncated or dropped."""
    p95_length: float
    longest: int
    tokens: int
    """Of the examples used, as they fit the context."""
    cut_off_tokens: int
    """What the truncated ones lost."""
    learned_tokens: int
    rows_packed: int
    rows_unpacked: int
    padding_share_packed: float
    """The part of all places that holds no example."""
    padding_share_unpacked: float
    cut_tokens: int
    """Examples in which a token of the whole text spans a boundary that is encoded apart."""
    unknown_characters: int
    """Characters that the tokenizer lacks, or that stand in words it lacks."""


@dataclass(frozen=True)
class CountsBySide(ABC):
    """What the examples of all sides are like, for a context of ``block_size``."""

    block_size: int
    format: str
    """The format, and how it was found."""
    template: str | None
    duplicates_across: int
    """Records of one side that equal one of another; of preferences, records whose prompt another side has."""
    deduplicated: bool
    """Whether duplicates were left out."""
    sides: tuple[Any, ...]

    counted: ClassVar[str]
    """What is counted."""
    across: ClassVar[str]
    """What a duplicate across the split is called."""

    @abstractmethod
    def quantities(self) -> list[tuple[str, str, str]]:
        """Title, attribute of a side, and format of each row; the third is that of duplicates."""

    def facts(self) -> list[dict[str, Any]]:
        """For programs: the counts of each side as plain numbers, by their names; ``side`` says which it is."""
        return [asdict(side) for side in self.sides]

    def header(self) -> list[str]:
        """The names of the columns: what is counted, then a column per side."""
        return [self.counted, *(side.side for side in self.sides)]

    def rows(self) -> list[list[str]]:
        """A row of text per quantity, in the order of :meth:`header`."""
        table = [
            [title, *(format(getattr(side, name), how) for side in self.sides)]
            for title, name, how in self.quantities()
        ]
        across = [f"{self.duplicates_across:,}", *("" for _ in self.sides[1:])]
        return [*table[:3], [f"{self.across}, {self.treated}", *across], *table[3:]]

    @property
    def treated(self) -> str:
        """What was done with duplicates."""
        return "left out" if self.deduplicated else "kept"


@dataclass(frozen=True)
class DataStatistics(CountsBySide):
    """What the examples of all sides are like, for a context of ``block_size``."""

    sides: tuple[SplitStatistics, ...]
    counted = "examples"
    across = "duplicates across the split"

    def quantities(self) -> list[tuple[str, str, str]]:
        return [
            ("documents", "documents", ","),
            ("examples used", "examples", ","),
            (f"duplicates, {self.treated}", "duplicates", ","),
            ("nothing to learn, left out", "nothing_to_learn", ","),
            (f"longer than {self.block_size:,}, truncated", "truncated", ","),
            (f"longer than {self.block_size:,}, dropped", "dropped", ","),
            ("median length, before cutting", "median_length", ",.0f"),
            ("95th percentile of lengths, before cutting", "p95_length", ",.0f"),
            ("longest, before cutting", "longest", ","),
            ("tokens cut off", "cut_off_tokens", ","),
            ("tokens, after cutting", "tokens", ","),
            ("tokens learned", "learned_tokens", ","),
            ("rows, packed", "rows_packed", ","),
            ("rows, one example each", "rows_unpacked", ","),
            ("padding, packed", "padding_share_packed", ".1%"),
            ("padding, one example each", "padding_share_unpacked", ".1%"),
            ("examples with a token cut at a boundary", "cut_tokens", ","),
            ("characters unknown to the tokenizer", "unknown_characters", ","),
        ]


def split_statistics(
    side: str, encoded: Sequence[Encoded], used: Sequence[Example], block_size: int, duplicates: int
) -> SplitStatistics:
    """The counts of ``side``: ``encoded`` as they came, ``used`` as they fit a context of ``block_size``."""
    whole = [one.example for one in encoded if one.example is not None]
    lengths = np.array([example.length for example in whole] or [0])
    fitting = [example.length for example in used]
    truncated = len(used) - sum(example.length <= block_size for example in whole)
    before = [example.length for example in whole if truncated and fitted(example, block_size, "truncate")]
    rows = len(best_fit_decreasing(fitting, block_size))
    return SplitStatistics(
        side=side,
        documents=len(encoded),
        examples=len(used),
        duplicates=duplicates,
        nothing_to_learn=len(encoded) - len(whole),
        truncated=truncated,
        dropped=len(whole) - len(used),
        median_length=float(np.median(lengths)),
        p95_length=float(np.quantile(lengths, 0.95)),
        longest=int(lengths.max()),
        tokens=sum(fitting),
        cut_off_tokens=sum(before) - sum(fitting) if truncated else 0,
        learned_tokens=sum(example.learned_tokens for example in used),
        rows_packed=rows,
        rows_unpacked=len(used),
        padding_share_packed=padding_share(fitting, rows, block_size),
        padding_share_unpacked=padding_share(fitting, len(used), block_size),
        cut_tokens=sum(one.cuts_a_token for one in encoded),
        unknown_characters=sum(one.unknown_characters for one in encoded),
    )
