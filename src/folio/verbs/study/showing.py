"""How a study stands while it runs: a live table on a terminal, elsewhere a line for each cell and now and then."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from folio.reports.quantities import duration
from folio.studies.running.engine import CellJob
from folio.studies.running.records import OVER, CellState
from folio.studies.running.work import Active, Ended, Listener
from folio.verbs.action import Terminal
from folio.verbs.progress import seconds_text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

BETWEEN_LOOKS_S, BETWEEN_LINES_S = 0.5, 30.0
LAST_SHOWN = 5


@contextmanager
def shown(terminal: Terminal, states: Mapping[str, CellState], jobs: Sequence[CellJob]) -> Iterator[Listener]:
    """What :func:`folio.studies.running.work.work_off` is to tell, for as long as it runs."""
    show = _Show(terminal, states, jobs)
    if not terminal.interactive:
        yield Listener(ended=show.ended, tick=show.tick)
        return
    from rich.live import Live

    with Live(console=terminal.console, refresh_per_second=4, transient=True) as live:
        show.live = live
        yield Listener(ended=show.ended, tick=show.tick)


class _Show:
    def __init__(self, terminal: Terminal, states: Mapping[str, CellState], jobs: Sequence[CellJob]) -> None:
        self.terminal, self.total = terminal, len(states)
        asked = {job.name for job in jobs}
        self.done = sum(state.status in OVER for name, state in states.items() if name not in asked)
        self.failed = sum(state.status == "failed" for name, state in states.items() if name not in asked)
        self.cost = sum(job.cost for job in jobs)
        self.live: Live | None = None
        self.last: list[Ended] = []
        self.finished_cost = 0.0
        self.begun = self.looked = self.told = time.monotonic()

    def ended(self, ended: Ended) -> None:
        self.done += ended.status in OVER
        self.failed += ended.status == "failed"
        self.finished_cost += ended.job.cost * (ended.status != "begun")
        self.last = [*self.last, ended][-LAST_SHOWN:]
        style = {"failed": "red", "diverged": "yellow"}.get(ended.status)
        log = f"; see {ended.job.log}" if ended.status == "failed" else ""
        self.terminal.print(
            f"[{self.done + self.failed}/{self.total}] {ended.job.words}: {_outcome(ended)}, "
            f"{duration(ended.seconds)}{log}",
            style=style,
        )

    def tick(self, active: Sequence[Active], waiting: Sequence[CellJob]) -> None:
        now = time.monotonic()
        if self.live is not None and now - self.looked >= BETWEEN_LOOKS_S:
            self.looked = now
            self.live.update(self._table(active, waiting))
        elif self.live is None and now - self.told >= BETWEEN_LINES_S:
            self.told = now
            at = ", ".join(f"{one.job.words}: step {one.watch.step:,} of {one.job.steps:,}" for one in active[:4])
            self.terminal.print(f"{self._counts(active, waiting)} ({at})")

    def _counts(self, active: Sequence[Active], waiting: Sequence[CellJob]) -> str:
        left = self._seconds_left(active)
        parts = [f"{self.done} done", f"{len(active)} running", f"{self.failed} failed", f"{len(waiting)} waiting"]
        return ", ".join([*parts, *([f"about {seconds_text(left)} left"] if math.isfinite(left) else [])])

    def _seconds_left(self, active: Sequence[Active]) -> float:
        """By floating-point operations, at the pace of this sitting."""
        here = self.finished_cost + sum(
            one.job.cost * max(0.0, one.share - one.first_step / max(1, one.job.steps)) for one in active
        )
        left = self.cost - self.finished_cost - sum(one.job.cost * one.share for one in active)
        return max(0.0, left) * (time.monotonic() - self.begun) / here if here > 0 else math.inf

    def _table(self, active: Sequence[Active], waiting: Sequence[CellJob]) -> RenderableType:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, title=self._counts(active, waiting), title_justify="left")
        table.add_column("cell", overflow="fold")
        for name in ("step", "training loss", "validation", "time"):
            table.add_column(name, justify="right")
        for ended in self.last:
            table.add_row(ended.job.words, ended.status, "", _nats(ended.validation_nats), duration(ended.seconds))
        for one in active:
            watch = one.watch
            step = f"{watch.step:,}/{one.job.steps:,}" if watch.step else "starting"
            spent = duration(time.monotonic() - one.since)
            table.add_row(one.job.words, step, _nats(watch.train_nats), _nats(watch.validation_nats), spent)
        return table


def _outcome(ended: Ended) -> str:
    if ended.status == "finished":
        return f"{_nats(ended.validation_nats)} nats/token"
    return f"{'stopped' if ended.status == 'begun' else ended.status}{f': {ended.error}' if ended.error else ''}"


def _nats(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else ""
