"""One function on many tasks in several plain processes, the results in order, a bounded number under way.

As in :mod:`folio.shards.worker`, the processes are children spoken to over pipes, not those of ``multiprocessing``: no
torch, no forked threads, no second run of the user's script, and they end when the parent does.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from queue import SimpleQueue
from typing import Any, TypeVar

from folio.errors import UserError
from folio.shards.child import Child
from folio.shards.worker import receive, send

Task = TypeVar("Task")
Result = TypeVar("Result")

TASKS_BEFORE_PROCESSES = 16
"""About the work that starting processes costs, where a task takes a tenth of a second."""


def in_processes(work: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Iterator[tuple[Task, Result]]:
    """Each task with what ``work`` makes of it, in order; at most ``2 * workers`` tasks are under way.

    ``work``, tasks and results are pickled. The first few tasks, and all of them with one worker, are done here.
    Errors for the user come through; a child that ends by itself is a :class:`DataError`.
    """
    stream = iter(tasks)
    for task in stream if workers == 1 else islice(stream, TASKS_BEFORE_PROCESSES):
        yield task, work(task)
    under_way: deque[tuple[Task, Future[Result]]] = deque()
    idle: SimpleQueue[_Process] = SimpleQueue()
    started: list[_Process] = []

    def elsewhere(task: Task) -> Result:
        process = idle.get()
        try:
            answer: Result = process.ask(task)
            return answer
        finally:
            idle.put(process)

    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(workers, thread_name_prefix="folio-work"))
        for task in stream:
            if len(started) < workers:
                started.append(_Process(pickle.dumps(work)))
                stack.callback(started[-1].stop)
                idle.put(started[-1])
            under_way.append((task, threads.submit(elsewhere, task)))
            if len(under_way) >= 2 * workers:
                done, future = under_way.popleft()
                yield done, future.result()
        while under_way:
            done, future = under_way.popleft()
            yield done, future.result()


class _Process(Child):
    """One child, set up with what it is to do."""

    def __init__(self, work: bytes) -> None:
        remedy = "Run the same command again with fewer workers."
        super().__init__("folio.evaluation.contamination.processes", "a working process", remedy)
        self._work: bytes | None = work

    def ask(self, task: object) -> Any:
        if self._work is not None:
            self.say(self._work)
            self.answer()
            self._work = None
        self.say(pickle.dumps(task))
        return self.answer()


def main() -> None:
    """Receive the work, then tasks until the parent is gone; answer each with its result or its error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not write into the answers
    work: Callable[[object], object] | None = None
    while (message := receive(sys.stdin.buffer)) is not None:
        answer: object
        try:
            if work is None:
                work, answer = pickle.loads(message), None
            else:
                answer = work(pickle.loads(message))
        except UserError as error:
            answer = error
        except BaseException:
            answer = RuntimeError("a working process failed:\n" + traceback.format_exc())
        try:
            send(answers, pickle.dumps(answer))
        except BrokenPipeError:
            return
