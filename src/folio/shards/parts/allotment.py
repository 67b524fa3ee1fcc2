"""Which documents of a part go to which side, as far as only the order of all documents tells.

The first so many tokens may be held out, and all ends with the document by which a budget is reached.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from folio.corpus.sources import FirstTokens, Sides
from folio.shards.parts.journal import SIDES, Layout, PartRecord

AHEAD = 1.05
"""Parts that many processes encode for a budget, over what it is expected to take."""


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive documents of a part's file for ``side`` that go to ``to``: ``tokens`` ids from ``start`` on."""

    side: str
    to: str
    start: int
    tokens: int
    documents: int
    text_bytes: int


@dataclass(frozen=True, slots=True)
class Allotment:
    """``held_out``: tokens of the first documents, the last one whole; ``budget``: tokens of both sides, likewise."""

    held_out: int = 0
    budget: int | None = None

    @classmethod
    def of(cls, sides: Sides, budget: int | None) -> Allotment:
        return cls(sides.tokens if isinstance(sides, FirstTokens) else 0, budget)

    @property
    def needs_layouts(self) -> bool:
        """Whether the size of each document must be known."""
        return bool(self.held_out) or self.budget is not None

    def is_reached(self, so_far: Mapping[str, int]) -> bool:
        """Whether nothing more is to be taken, with ``so_far`` tokens a side."""
        return self.budget is not None and sum(so_far.values()) >= self.budget

    def parts_wanted(self, records: Mapping[int, PartRecord], parts: int) -> int:
        """So many of the first of all ``parts`` are to be encoded, as far as those that are tell; all if none is.

        A budget that the first ones fill wants no more; otherwise as many more as hold on average what it lacks.
        """
        if self.budget is None or not records:
            return parts
        sizes = {number: sum(side.tokens for side in record.sides.values()) for number, record in records.items()}
        first = tokens = 0
        while first in sizes and tokens < self.budget:
            tokens += sizes[first]
            first += 1
        if tokens >= self.budget:
            return first
        on_average = sum(sizes.values()) / len(sizes)
        more = math.ceil(AHEAD * (self.budget - tokens) / on_average) if on_average else parts
        return min(parts, first + more)

    def runs(self, record: PartRecord, layout: Layout | None, so_far: Mapping[str, int]) -> list[Run]:
        """What is taken of a part, in the order of its files, when its turn comes with ``so_far`` tokens a side."""
        if layout is None:
            return [
                Run(side, side, 0, about.tokens, about.documents, about.text_bytes)
                for side, about in record.sides.items()
            ]
        sizes = layout["tokens"].astype(np.int64)
        taken = len(sizes)
        if self.budget is not None:
            taken = _reaching(sizes, self.budget - sum(so_far.values()))
        to = layout["side"].copy()
        if self.held_out:
            to[: _reaching(sizes, self.held_out - so_far["val"])] = SIDES.index("val")
        runs = []
        for number, side in enumerate(SIDES):
            start = 0
            for target in ("val", "train"):
                chosen = (layout["side"] == number) & (to == SIDES.index(target))
                chosen[taken:] = False
                if chosen.any():
                    tokens = int(sizes[chosen].sum())
                    runs.append(
                        Run(side, target, start, tokens, int(chosen.sum()), int(layout["text_bytes"][chosen].sum()))
                    )
                    start += tokens
        return runs


def _reaching(sizes: Layout, tokens: int) -> int:
    """How many of the first documents hold at least ``tokens`` together, or all."""
    if tokens <= 0:
        return 0
    return min(len(sizes), int(np.searchsorted(np.cumsum(sizes), tokens)) + 1)
