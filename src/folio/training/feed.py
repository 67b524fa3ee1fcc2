"""The batches of a step where training needs them: drawn there and then, or ahead of need by another thread."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from folio.ranks import Ranks
from folio.shards.stream import Ids, TokenStream
from folio.training.attending import SLICE_S, Attendant
from folio.training.objective import BatchSource
from folio.training.plan import BatchPlan
from folio.training.stopping import StopNow

HELD_IDS = 1_000_000
"""Ids that an attended stream reads at once."""


@dataclass(frozen=True)
class Drawn:
    """This rank's micro-batches of a step; units of its whole batch; whether any rank is asked to stop.

    ``waited_s`` is how long the slowest rank waited for them. Without them, the step is not to be taken.
    """

    batches: list[Any]
    count: int
    stopping: bool
    waited_s: float


class Feed:
    """A source whose batches a thread draws: the next step's and those of ``ahead`` more, none past step ``last``.

    Only when they are drawn is another than without it; a batch is what the source says it is.
    """

    def __init__(self, source: BatchSource, plan: BatchPlan, attendant: Attendant, *, ahead: int, last: int) -> None:
        self.source = source
        self.plan = plan
        self.attendant = attendant
        self._ahead = ahead
        self._last = last
        self._promised: dict[int, Future[list[Any]]] = {}

    def batch(self, step: int, rows: slice = slice(None)) -> Any:
        return self.source.batch(step, rows)

    def tokens_before(self, step: int) -> int:
        return self.source.tokens_before(step)

    def promised(self, step: int) -> Future[list[Any]]:
        """This rank's micro-batches of ``step``, soon; those of the steps after it are begun, all others dropped."""
        wanted = range(step, max(step + 1, min(step + 1 + self._ahead, self._last)))
        for other in self._promised.keys() - set(wanted):
            self._promised.pop(other).cancel()
        for one in wanted:
            if one not in self._promised:
                self._promised[one] = self.attendant.worker.begin(partial(self._draw, one))
        return self._promised[step]

    def _draw(self, step: int) -> list[Any]:
        rank = self.attendant.ranks.rank
        return [self.source.batch(step, self.plan.rows(number, rank)) for number in range(self.plan.accumulation)]


def draw(
    source: BatchSource,
    step: int,
    plan: BatchPlan,
    ranks: Ranks,
    count: Callable[[Any], int],
    asked_to_stop: Callable[[], bool],
) -> Drawn:
    """What the step ``step`` (from 0) is taken on; ``count`` gives the units of a micro-batch. Collective.

    Of a :class:`Feed`, :class:`DataLost` on every rank if any waited too long for it.
    """
    begun = time.perf_counter()
    promised = source.promised(step) if isinstance(source, Feed) else _at_once(source, step, plan, ranks)
    concurrent.futures.wait([promised], timeout=SLICE_S)
    waits = [0.0] * ranks.world_size

    def asked() -> None:
        if ranks.sum([asked_to_stop()])[0]:
            raise StopNow

    while True:
        there = promised.done()
        batches = promised.result() if there else []
        waits[ranks.rank] = time.perf_counter() - begun
        own = [sum(map(count, batches)), asked_to_stop(), not there, *waits]
        units, stopping, late, *seen = ranks.sum(own)
        if stopping or not late:
            return Drawn(batches, int(units), bool(stopping), max(seen))
        assert isinstance(source, Feed)
        try:
            source.attendant.wait(promised, asked, time.perf_counter() - begun)
        except StopNow:
            return Drawn([], 0, True, time.perf_counter() - begun)


def _at_once(source: BatchSource, step: int, plan: BatchPlan, ranks: Ranks) -> Future[list[Any]]:
    drawn: Future[list[Any]] = Future()
    drawn.set_result([source.batch(step, plan.rows(number, ranks.rank)) for number in range(plan.accumulation)])
    return drawn


class AttendedStream(TokenStream):
    """A stream that every rank reads alike, in long pieces and by another thread, so that it may stall.

    ``poll`` is called while it waits. Reading is collective; :class:`DataLost` when a piece does not come.
    """

    def __init__(self, stream: TokenStream, attendant: Attendant, poll: Callable[[], None]) -> None:
        super().__init__(())
        self.stream = stream
        self._attendant = attendant
        self._poll = poll
        self._held: Ids = np.empty(0, dtype=stream.dtype)
        self._held_from = 0

    def __len__(self) -> int:
        return len(self.stream)

    def read(self, start: int, count: int) -> Ids:
        if start < 0 or count < 0 or start + count > len(self):
            return self.stream.read(start, count)  # says why not
        offset = start - self._held_from
        if offset < 0 or offset + count > len(self._held):
            size = max(count, min(HELD_IDS, len(self) - start))
            promised = self._attendant.worker.begin(lambda: self.stream.read(start, size).copy())
            self._attendant.wait(promised, self._poll)
            self._held, self._held_from, offset = promised.result(), start, 0
        return self._held[offset : offset + count]
