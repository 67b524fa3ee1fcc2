"""What a verb is made of: an :class:`Action` with typed options, an :class:`Outcome`, and a :class:`Terminal`."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folio.config import Table

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from folio.verbs.progress import Progress

PLAIN_WIDTH = 120
"""Columns of a table that is written to a file or a pipe."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a verb did: ``data`` for ``--json``, the paths it ``wrote``, and the commands a user would want ``next``."""

    data: Mapping[str, Any] = field(default_factory=dict)
    wrote: tuple[Path, ...] = ()
    next: tuple[str, ...] = ()

    def answer(self) -> dict[str, Any]:
        """The one JSON object of ``--json``: ``data``, ``wrote`` and ``next`` in JSON's own types."""
        return {**json_value(self.data), "wrote": json_value(self.wrote), "next": list(self.next)}


@dataclass(frozen=True, slots=True)
class Action:
    """One thing the command line can do.

    ``run`` is called with an instance of ``options`` and a :class:`Terminal`. ``examples`` are whole command lines that
    ``--help`` shows. ``default``, where given, looks at the raw arguments and returns the values that flags start from
    (a preset, a file), or None when the arguments choose none.
    """

    options: type[Table]
    run: Callable[[Any, Terminal], Outcome]
    summary: str
    examples: tuple[str, ...] = ()
    default: Callable[[Sequence[str]], Table | None] | None = None


class Terminal:
    """Where a verb prints: results on stdout, progress beside them; nothing at all when ``quiet`` (under ``--json``).

    Text is printed as it is: ``[brackets]`` are no markup, long lines are not broken.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._consoles: dict[str, Console] = {}

    @property
    def interactive(self) -> bool:
        """Whether a person watches: stdout is a terminal and the verb is not quiet."""
        return not self.quiet and sys.stdout.isatty()

    @property
    def console(self) -> Console:
        """The rich console on stdout (silent when quiet), for what the methods here do not cover."""
        return self._console("stdout")

    def _console(self, stream: str) -> Console:
        if stream not in self._consoles:
            from rich.console import Console

            watched = getattr(sys, stream).isatty()
            self._consoles[stream] = Console(
                stderr=stream == "stderr",
                quiet=self.quiet,
                markup=False,
                highlight=False,
                emoji=False,
                width=None if watched else PLAIN_WIDTH,
            )
        return self._consoles[stream]

    def print(self, content: RenderableType = "", style: str | None = None) -> None:
        """Print a line of text, or anything rich can render, on stdout; ``style`` as in rich ("bold", "dim")."""
        self.console.print(content, style=style, soft_wrap=isinstance(content, str))

    def write(self, text: str) -> None:
        """Put ``text`` on stdout at once and without a newline: for text that streams."""
        if not self.quiet:
            sys.stdout.write(text)
            sys.stdout.flush()

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
        """Print a table: whole numbers with thousands separators, fractions to four digits, numbers to the right."""
        from rich import box
        from rich.table import Table as RichTable

        cells = [list(row) for row in rows]
        table = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for index, column in enumerate(columns):
            numeric = bool(cells) and all(isinstance(row[index], int | float) or row[index] is None for row in cells)
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for row in cells:
            table.add_row(*(cell_text(value) for value in row))
        self.console.print(table)

    @contextmanager
    def progress(self, description: str, total: int | None = None, unit: str = "") -> Iterator[Progress]:
        """Show how far long work has come: ``with terminal.progress("train", steps, "step") as bar: bar.update(done)``.

        On a terminal a live bar with rate, time left and the fields given to ``update``; elsewhere a plain line on
        stderr every ten seconds or tenth of the work, whichever is later; nothing when quiet. ``total`` None: unknown.
        """
        from folio.verbs.progress import live, plain, silent

        if self.quiet:
            show = silent()
        elif sys.stdout.isatty() or sys.stderr.isatty():
            show = live(self._console("stdout" if sys.stdout.isatty() else "stderr"), description, total, unit)
        else:
            show = plain(sys.stderr, description, total, unit)
        with show as bar:
            yield bar


def cell_text(value: object) -> str:
    """A table cell: 12,345 for whole numbers, four significant digits for fractions, nothing for None.

    A fraction of a billion or more is written as a power of ten: a perplexity may be anything.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if 10_000 <= abs(value) < 1e9 else f"{value:.4g}"
    return str(value)


def json_value(value: Any) -> Any:
    """``value`` in JSON's own types: paths and the like as text, not-a-number as null, arrays and scalars unpacked."""
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_value(item) for item in value]
    if hasattr(value, "model_dump"):
        return json_value(value.model_dump(mode="json"))
    if hasattr(value, "tolist"):
        return json_value(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)
