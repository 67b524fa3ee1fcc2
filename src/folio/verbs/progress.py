"""How far long work has come: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_BETWEEN_LINES = 10.0
SHARE_BETWEEN_LINES = 0.1
WIDE = 120
"""Columns of a terminal from which on the bar itself is drawn; a narrow one keeps its room for the numbers."""


class Progress(Protocol):
    """What the worker sees of the bar."""

    def update(self, done: int, fields: Mapping[str, str] | None = None, **more: str) -> None:
        """Say that ``done`` units are finished, and what to show beside: ``fields`` by name, or as keywords.

        ``bar.update(step, {"loss": "3.21", "bits/byte": "1.93"})``. Fields stay until given again.
        """


class _Silent:
    def update(self, done: int, fields: Mapping[str, str] | None = None, **more: str) -> None:
        pass


class _Plain:
    """Writes a line when ten seconds and a tenth of the work have passed since the last one, and one at the end."""

    def __init__(
        self, out: TextIO, description: str, total: int | None, unit: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.out, self.description, self.total, self.unit, self.clock = out, description, total, unit, clock
        self.fields: dict[str, str] = {}
        self.start = self.line_time = clock()
        self.first_done: int | None = None
        self.done = self.line_done = 0

    def update(self, done: int, fields: Mapping[str, str] | None = None, **more: str) -> None:
        if self.first_done is None:
            self.first_done = self.line_done = done
        self.done = done
        self.fields.update(fields or {}, **more)
        enough = done - self.line_done >= (self.total or 0) * SHARE_BETWEEN_LINES
        if done != self.line_done and enough and self.clock() - self.line_time >= SECONDS_BETWEEN_LINES:
            self.line()

    def line(self) -> None:
        elapsed = self.clock() - self.start
        rate = (self.done - (self.first_done or 0)) / elapsed if elapsed > 0 else 0.0
        parts = [f"{self.done:,}" + (f"/{self.total:,}" if self.total else "") + (f" {self.unit}" if self.unit else "")]
        parts += [f"{name} {value}" for name, value in self.fields.items()]
        parts.append(f"{seconds_text(elapsed)} gone")
        if self.total and rate > 0 and self.done < self.total:
            parts.append(f"{seconds_text((self.total - self.done) / rate)} left")
        print(f"{self.description}: {', '.join(parts)}", file=self.out, flush=True)
        self.line_time, self.line_done = self.clock(), self.done


@contextmanager
def silent() -> Iterator[Progress]:
    """Shows nothing."""
    yield _Silent()


@contextmanager
def plain(out: TextIO, description: str, total: int | None, unit: str) -> Iterator[Progress]:
    """Lines on ``out``, the last when the work ends."""
    bar = _Plain(out, description, total, unit)
    yield bar
    if bar.done != bar.line_done:
        bar.line()


@contextmanager
def live(console: Console, description: str, total: int | None, unit: str) -> Iterator[Progress]:
    """A bar that redraws itself on ``console``; lines printed to the same console appear above it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.table import Column
    from rich.text import Text

    class RateColumn(TextColumn):
        """Units a second over the last seconds."""

        def render(self, task: Task) -> Text:
            return Text(rate_text(task.speed or task.finished_speed, unit), style="cyan")

    wide = [BarColumn(bar_width=24), TimeElapsedColumn()] if console.width >= WIDE else []
    bar = RichProgress(
        TextColumn("{task.description}"),
        *wide,
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        RateColumn(""),
        TextColumn("left"),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[shown]}", style="green", table_column=Column()),
        console=console,
        refresh_per_second=4,
    )
    task_id = bar.add_task(description, total=total, shown="")
    shown: dict[str, str] = {}

    class Live:
        def update(self, done: int, fields: Mapping[str, str] | None = None, **more: str) -> None:
            shown.update(fields or {}, **more)
            bar.update(task_id, completed=done, shown="  ".join(f"{name} {value}" for name, value in shown.items()))

    with bar:
        yield Live()


def rate_text(rate: float | None, unit: str) -> str:
    """``12.3 step/s``, or seconds a unit below one a second, or nothing while unknown."""
    if not rate:
        return ""
    unit = unit or "it"
    return f"{rate:,.1f} {unit}/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit}"


def seconds_text(seconds: float) -> str:
    """``45 s``, ``3:05``, ``2:03:05``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
