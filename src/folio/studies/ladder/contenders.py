"""The asker's side: processes that stay alive, take turns when they are asked to, and sleep meanwhile."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

Answer = dict[str, Any]


class Failed(Exception):
    """A rung's process could not do what it was asked; ``str()`` says why in a few words."""


class Contender:
    """One rung in one process, or on several ranks in as many."""

    def __init__(self, task: Answer, *, ranks: int = 1, threads: int = 0) -> None:
        """``threads`` on each rank; 0 leaves the environment's."""
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - see close()
        self.start_s = time.monotonic()
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
        try:
            self.first = self._answers()
        except BaseException:
            self.close()
            raise
        self.start_s = time.monotonic() - self.start_s

    def ask(self, question: Answer) -> Answer:
        """Rank 0's answer, with the seconds of the slowest; :class:`Failed` if there is none."""
        for process in self._processes:
            assert process.stdin is not None
            try:
                print(json.dumps(question), file=process.stdin, flush=True)
            except BrokenPipeError:
                raise Failed(self._last_words(process)) from None
        return self._answers()

    def _answers(self) -> Answer:
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
        return {**answers[0], **slowest, **total}

    def _last_words(self, process: subprocess.Popen[str]) -> str:
        code = process.wait()
        if code == -9:
            return "the system killed it, most likely for memory"
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return f"its process ended with exit code {code}" + (f": {lines[-1]}" if lines else "")

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


@contextmanager
def contender(task: Answer, *, ranks: int = 1, threads: int = 0) -> Iterator[Contender]:
    """One that is closed again."""
    one = Contender(task, ranks=ranks, threads=threads)
    try:
        yield one
    finally:
        one.close()


@contextmanager
def closing(pool: dict[str, Contender]) -> Iterator[dict[str, Contender]]:
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
