"""The asker's side: processes that stay alive, take turns when they are asked to, and sleep meanwhile."""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

Answer = dict[str, Any]


class Failed(Exception):
    """A rung's process could not do what it was asked; ``str()`` says why in a few words."""


class Contender:
    """One rung in one process, or on several ranks in as many. It is started at once; :meth:`hear` waits for it."""

    def __init__(self, task: Answer, *, ranks: int = 1, threads: int = 0) -> None:
        """``threads`` on each rank; 0 leaves the environment's."""
        self.latest: Answer = {}
        """What it answered last."""
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - see close()
        places = _places(ranks, threads)
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "folio.studies.ladder.child", json.dumps(task)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env=os.environ | place,
            )
            for place in places
        ]

    def ask(self, question: Answer) -> Answer:
        """What :meth:`hear` gives for a question."""
        self.tell(question)
        return self.hear()

    def tell(self, question: Answer) -> None:
        """Ask, and do not wait for the answer."""
        for process in self._processes:
            assert process.stdin is not None
            try:
                print(json.dumps(question), file=process.stdin, flush=True)
            except BrokenPipeError:
                raise Failed(self._last_words(process)) from None

    def hear(self) -> Answer:
        """Rank 0's next answer, the first without a question, with the seconds of the slowest.

        :class:`Failed` if there is none.
        """
        answers: list[Answer] = []
        for process in self._processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise Failed(self._last_words(process))
            answer = json.loads(line)
            if "error" in answer:
                raise Failed(answer["error"])
            answers.append(answer)
        slowest = {"seconds": max(one["seconds"] for one in answers)} if "seconds" in answers[0] else {}
        held = [one["peak_bytes"] for one in answers if isinstance(one.get("peak_bytes"), int)]
        total = {"peak_bytes": sum(held)} if len(held) == len(answers) else {}
        self.latest = {**answers[0], **slowest, **total}
        return self.latest

    def _last_words(self, process: subprocess.Popen[str]) -> str:
        code = process.wait()
        if code == -9:
            return "the system killed it, most likely for memory"
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return f"its process ended with exit code {code}" + (f": {lines[-1]}" if lines else "")

    @property
    def answers(self) -> IO[str]:
        """Where rank 0 answers."""
        answers = self._processes[0].stdout
        assert answers is not None
        return answers

    def close(self) -> None:
        """End it: it goes when its input does, or is made to."""
        for process in self._processes:
            if process.stdin is not None:
                with suppress(BrokenPipeError):
                    process.stdin.close()
        for process in self._processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._errors.close()


def first_to_answer(contenders: Sequence[Contender]) -> Contender:
    """One of those that were told something, as soon as there is something to hear."""
    if len(contenders) == 1:
        return contenders[0]
    with selectors.DefaultSelector() as waiting:
        for one in contenders:
            waiting.register(one.answers, selectors.EVENT_READ, one)
        key, _ = waiting.select()[0]
    found: Contender = key.data
    return found


@contextmanager
def closing(pool: dict[Any, Contender]) -> Iterator[dict[Any, Contender]]:
    """Whatever is in ``pool`` when the block ends is closed."""
    try:
        yield pool
    finally:
        for one in pool.values():
            one.close()


def _places(ranks: int, threads: int) -> list[dict[str, str]]:
    each = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    if ranks == 1:
        return [each]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return [{**each, **job, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
