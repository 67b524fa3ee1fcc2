"""Parts worked on by several processes, the answers in order, a bounded number of parts under way."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, TypeVar

from folio.corpus.sources import Part
from folio.shards.child import Child
from folio.shards.parts.job import PartJob, Tell, Told

AHEAD = 4
"""Parts under way or waiting for their turn, for each process: so many finished parts lie on the disk unmerged."""

Done = TypeVar("Done")


class PartsPool(Generic[Done]):
    """Does ``job`` in ``workers`` processes. ``tell`` hears what they say, ``done`` of each part as soon as it is
    there; both from threads of the pool's own, one at a time each."""

    def __init__(self, job: PartJob[Done], workers: int, tell: Tell, done: Callable[[Done], None]) -> None:
        self.workers = workers
        self._job = job
        self._tell = tell
        self._done = done
        self._processes: list[_Process] = []
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="folio-parts")

    def __enter__(self) -> PartsPool[Done]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.stop()
        self._threads.shutdown(cancel_futures=True)

    def run(self, parts: Iterable[Part]) -> Iterator[Done]:
        """What the job gives for each part, in order."""
        setup = pickle.dumps(self._job)
        under_way: deque[Future[Done]] = deque()
        for part in parts:
            if len(self._processes) < self.workers:  # no more processes than parts
                process = _Process(setup)
                self._processes.append(process)
                self._idle.put(process)
            under_way.append(self._threads.submit(self._do, part))
            if len(under_way) >= AHEAD * self.workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()

    def _do(self, part: Part) -> Done:
        process = self._idle.get()
        try:
            done: Done = process.ask(part, self._tell)
        finally:
            self._idle.put(process)
        self._done(done)
        return done


class _Process(Child):
    """One child process; see :mod:`folio.shards.parts.job`."""

    def __init__(self, setup: bytes) -> None:
        remedy = "Run the same command again with fewer workers: what is done is kept."
        super().__init__("folio.shards.parts.job", "an encoding process", remedy)
        self.say(setup)
        self._ready = False

    def ask(self, part: Part, tell: Tell) -> Any:
        if not self._ready:
            self.answer()
            self._ready = True
        self.say(pickle.dumps(part))
        while isinstance(answer := self.answer(), Told):
            tell(answer)
        return answer
