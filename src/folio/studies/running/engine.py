"""Where cells are trained: processes of this machine, or Ray's. An engine starts jobs and says when they have ended."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class CellJob:
    """One cell to be trained: a command line, and where its words go. ``cost`` is in floating-point operations."""

    name: str
    words: str
    run: Path
    log: Path
    command: tuple[str, ...]
    cost: float
    steps: int
    threads: int | None = None
    """Those that it began with: another number of them would be within rounding, but not the same bits."""
    attempts: int = 0


class Running(Protocol):
    """A job that was started."""

    def exit_code(self) -> int | None:
        """None while it goes on; below 0 for a process that a signal ended."""
        ...

    def stop(self) -> None:
        """Ask it to save and leave; returns at once."""
        ...

    def kill(self) -> None:
        """End it now, for good."""
        ...


class Engine(Protocol):
    """What jobs are given to."""

    @property
    def room(self) -> int:
        """How many jobs at once."""
        ...

    def threads_of(self, job: CellJob) -> int:
        """With how many threads it would run."""
        ...

    def start(self, job: CellJob, slot: int) -> Running:
        """Start it in one of the ``room`` places."""
        ...


@dataclass(frozen=True)
class LocalEngine:
    """``room`` processes at once, each with its share of the machine's cores and GPUs."""

    room: int
    threads: int
    gpus: int = 0
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def threads_of(self, job: CellJob) -> int:
        return job.threads or self.threads

    def start(self, job: CellJob, slot: int) -> Running:
        surroundings = surroundings_of(self.environment, self.threads_of(job))
        if self.gpus > 1 and "CUDA_VISIBLE_DEVICES" not in self.environment:
            surroundings["CUDA_VISIBLE_DEVICES"] = str(slot % self.gpus)
        return CellProcess(job.command, job.log, surroundings)


class CellProcess:
    """On a leash (:mod:`folio.studies.running.child`), in a session of its own: a Ctrl-C is for the study alone."""

    def __init__(self, command: tuple[str, ...], log: Path, surroundings: Mapping[str, str]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(surroundings),
                start_new_session=True,
            )

    def exit_code(self) -> int | None:
        code = self._process.poll()
        if code is not None:
            self._let_go()
        return code

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._let_go()

    def _let_go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()


def surroundings_of(environment: Mapping[str, str], threads: int) -> dict[str, str]:
    """The environment of a process with so many threads, and of no launcher's job."""
    ours = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    kept = {key: value for key, value in environment.items() if key not in ours}
    return {**kept, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))}


def shared_out(cores: int, workers: int) -> int:
    """Threads of each of so many workers."""
    return max(1, cores // workers)


def words_of_failure(log: Path, start: int, code: int) -> str:
    """One line of why a job failed, from what it wrote to its log after byte ``start``."""
    try:
        with open(log, "rb") as file:
            file.seek(start)
            lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    said = [line.removeprefix("folio: ") for line in lines if line.startswith("folio: ")]
    if code < 0:
        name = signal.Signals(-code).name if -code in list(signal.Signals) else str(-code)
        return f"ended by {name}" + (", perhaps for want of memory" if -code == signal.SIGKILL else "")
    if code == 1 and len(lines) > 1 and said:  # a bug: the line before folio's own says which
        return lines[-2] if lines[-1].startswith("folio: ") else lines[-1]
    return said[-1] if said else (lines[-1] if lines else f"ended with exit code {code}, without a word")
