"""One function on many tasks in several plain processes, the results in order, a bounded number under way.

As in :mod:`folio.shards.worker`, the processes are children spoken to over pipes, not those of ``multiprocessing``: no
torch, no forked threads, no second run of the user's script, and they end when the parent does.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import islice
from queue import SimpleQueue
from typing import Any, TypeVar

from folio.errors import DataError, UserError
from folio.shards.worker import receive, send

Task = TypeVar("Task")
Result = TypeVar("Result")

TASKS_BEFORE_PROCESSES = 16
"""About the work that starting processes costs, where a task takes a tenth of a second."""
BOOTSTRAP = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
BOOTSTRAP += "from folio.evaluation.contamination.processes import main; main()"


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


class _Process:
    """One child, set up with what it is to do."""

    def __init__(self, work: bytes) -> None:
        command = [sys.executable, "-c", BOOTSTRAP, json.dumps(sys.path)]
        surroundings = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=surroundings)
        self._work: bytes | None = work

    def ask(self, task: object) -> Any:
        if self._work is not None:
            self._exchange(self._work)
            self._work = None
        return self._exchange(pickle.dumps(task))

    def stop(self) -> None:
        """End the child at once; it holds nothing that is worth keeping."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def _exchange(self, message: bytes) -> Any:
        try:
            send(self._child.stdin, message)  # type: ignore[arg-type]
            reply = receive(self._child.stdout)  # type: ignore[arg-type]
        except (BrokenPipeError, ValueError):
            reply = None
        if reply is None:
            raise DataError(
                f"a working process ended by itself (exit status {self._child.wait()}), perhaps for want of memory",
                "Run the same command again with fewer workers.",
            )
        answer = pickle.loads(reply)
        if isinstance(answer, Exception):
            raise answer
        return answer


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
