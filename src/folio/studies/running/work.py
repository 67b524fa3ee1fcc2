"""The cells of a study are trained, as many at once as there is room for, until none is left or one asks to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from folio.studies.running.child import SAVED
from folio.studies.running.engine import CellJob, Engine, Running, words_of_failure
from folio.studies.running.records import CellLog, Status
from folio.studies.running.watching import RunWatch, ending_of

POLL_S = 0.1


@dataclass
class Active:
    """A job that runs: in which place, since when, and how far it is."""

    job: CellJob
    slot: int
    running: Running
    watch: RunWatch
    log_start: int
    since: float = field(default_factory=time.monotonic)
    first_step: int = 0

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1."""
        return min(1.0, self.watch.step / max(1, self.job.steps))


@dataclass(frozen=True)
class Ended:
    """A job that has ended, and how."""

    job: CellJob
    status: Status
    error: str
    seconds: float
    validation_nats: float


@dataclass
class Listener:
    """Who hears of it: of each start and each end, and now and then how all stand."""

    started: Callable[[Active], None] = lambda active: None
    ended: Callable[[Ended], None] = lambda ended: None
    tick: Callable[[Sequence[Active], Sequence[CellJob]], None] = lambda active, waiting: None


def work_off(
    jobs: Sequence[CellJob],
    engine: Engine,
    log: CellLog,
    listener: Listener,
    asked_to_stop: Callable[[], bool],
    is_taken: Callable[[Path], bool],
) -> list[Ended]:
    """Train ``jobs`` in their order; each that ends is in the ``log`` before anything else is done.

    When ``asked_to_stop`` those that run are told to save, and waited for. One whose run ``is_taken`` by another
    process (left behind by a study that was killed, and saving still) waits until it is free.
    """
    waiting, active, ended, stopping = list(jobs), list[Active](), list[Ended](), False
    try:
        while waiting or active:
            if asked_to_stop() and not stopping:
                stopping = True
                waiting.clear()
                for one in active:
                    one.running.stop()
            while len(active) < engine.room and (job := _next_free(waiting, is_taken)) is not None:
                waiting.remove(job)
                active.append(_start(job, engine, log, active))
                listener.started(active[-1])
            for one in list(active):
                if (code := one.running.exit_code()) is not None:
                    active.remove(one)
                    ended.append(_settled(one, code, stopping, log))
                    listener.ended(ended[-1])
                else:
                    one.watch.look()
            listener.tick(active, waiting)
            time.sleep(POLL_S)
    finally:
        for one in active:  # only where something went wrong, or a second Ctrl-C came
            one.running.kill()
    return ended


def _next_free(waiting: Sequence[CellJob], is_taken: Callable[[Path], bool]) -> CellJob | None:
    return next((job for job in waiting if not is_taken(job.run)), None)


def _start(job: CellJob, engine: Engine, log: CellLog, active: Sequence[Active]) -> Active:
    slot = next(slot for slot in range(engine.room) if slot not in [one.slot for one in active])
    log.tell("began", job.name, threads=engine.threads_of(job))
    start = job.log.stat().st_size if job.log.exists() else 0
    watch = RunWatch(job.run)
    watch.look()
    return Active(job, slot, engine.start(job, slot), watch, start, first_step=watch.step)


def _settled(one: Active, code: int, stopping: bool, log: CellLog) -> Ended:
    """What became of a job that has ended, by what its run says; its exit code counts only where that says nothing."""
    one.watch.look()
    seconds = time.monotonic() - one.since
    ending = ending_of(one.job.run)
    status: Status
    if ending is not None:
        status, error = ending
    elif code == SAVED or stopping:
        status, error = "begun", ""
    else:
        status, error = "failed", words_of_failure(one.job.log, one.log_start, code)
    kind = "stopped" if status == "begun" else status
    log.tell(kind, one.job.name, one.watch.step, seconds=seconds, **({"error": error} if error else {}))
    return Ended(one.job, status, error, seconds, one.watch.validation_nats)
