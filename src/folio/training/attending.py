"""Work that may take long on another thread, and waiting for it: in sight, on all ranks together, and not for ever."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, Literal, NamedTuple, TypeVar

from folio.errors import DataLost
from folio.ranks import ALONE, Ranks
from folio.shards.watch import ReadWatch

T = TypeVar("T")

SLICE_S = 0.25
"""How long a wait for the thread lasts before requests to stop, and the other ranks, are looked at."""
TOLD_AFTER_S = 5.0
"""From when on a wait is worth a word; the next come at twice the time, but at least once in ``TOLD_EVERY_S``."""
TOLD_EVERY_S = 120.0
LEAVE_S = 2.0
"""How long a thread is given to end what it does; one that hangs in a read is left to end with the process."""


class Wait(NamedTuple):
    """A wait for data, as it is told: that it has begun to be long, that it goes on, that it is over."""

    stage: Literal["begun", "on", "over"]
    seconds: float
    rank: int
    """The one that is waited for."""
    why: str


class _Seen(NamedTuple):
    done: bool
    why: str


class Worker:
    """A thread that does jobs in order, begun with the first. One that hangs does not keep the process from ending."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread: Thread | None = None

    def begin(self, job: Callable[[], T]) -> Future[T]:
        """What ``job`` will have given, or raised, once its turn has come. It can be cancelled until then."""
        promised: Future[T] = Future()
        self._jobs.put((promised, job))
        if self._thread is None:
            self._thread = Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        return promised

    def close(self) -> None:
        """Take no more jobs, and wait a little for the end of the one under way."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(LEAVE_S)

    def _work(self) -> None:
        while (taken := self._jobs.get()) is not None:
            promised, job = taken
            if not promised.set_running_or_notify_cancel():
                continue
            try:
                promised.set_result(job())
            except BaseException as error:
                promised.set_exception(error)
            del taken, promised, job  # or the last batch would be held until the next


class Attendant:
    """Has ``worker`` read under ``watch``, and waits for it.

    ``patience_s`` is how long a single wait may last; ``tell`` hears of long ones, on every rank.
    """

    def __init__(
        self, name: str, patience_s: float, ranks: Ranks = ALONE, tell: Callable[[Wait], None] = lambda wait: None
    ) -> None:
        self.worker = Worker(name)
        self.watch = ReadWatch()
        self.patience_s = patience_s
        self.ranks = ranks
        self.tell = tell

    def __enter__(self) -> Attendant:
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.end()
        self.worker.close()

    def wait(self, promised: Future[Any], poll: Callable[[], None], waited_s: float = 0.0) -> None:
        """Until every rank has what it was promised, or what it raises; ``waited_s`` were spent waiting before.

        Collective: ranks tell each other how they are, so none is taken for lost meanwhile. ``poll`` is called now and
        then, and may raise. :class:`DataLost` on every rank when patience is at an end.
        """
        begun, next_s, told = time.monotonic() - waited_s, TOLD_AFTER_S, None
        while True:
            concurrent.futures.wait([promised], timeout=SLICE_S)
            poll()
            here = (time.monotonic() - begun, _Seen(promised.done(), self.watch.in_words()))
            everywhere = self.ranks.gather(here)
            seconds = everywhere[0][0]  # one clock for all
            late = [(rank, seen.why) for rank, (_, seen) in enumerate(everywhere) if not seen.done]
            if not late:
                break
            if seconds >= next_s:
                told = Wait("begun" if told is None else "on", seconds, *late[0])
                self.tell(told)
                next_s = min(2 * next_s, next_s + TOLD_EVERY_S)
            if seconds >= self.patience_s:
                rank, why = late[0]
                on = f" on rank {rank}" if self.ranks.world_size > 1 else ""
                raise DataLost(f"no data for {seconds:,.0f} s{on}: {why}", "See to the disk or mount that they lie on.")
        if told is not None:
            self.tell(Wait("over", seconds, told.rank, told.why))
