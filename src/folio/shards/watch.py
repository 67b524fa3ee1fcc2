"""Reads that may fail or hang for a while: tried again until they succeed, in sight of another thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0


class ReadingEnded(Exception):
    """Nobody waits for what was to be read any more."""


class ReadWatch:
    """What one thread is reading, for another to see, which may also :meth:`end` it.

    Every :class:`OSError` is met with a pause, the file opened anew, and another try, without end: these files were
    whole when they were opened, so it is their mount that has trouble. How long to wait is for the other thread to say.
    """

    def __init__(self) -> None:
        self._ended = Event()
        self._reading: Path | None = None
        self._tries = 0
        self._error = ""

    def read(self, path: Path, read: Callable[[], T], reopen: Callable[[], None]) -> T:
        """What ``read`` gives, as soon as it gives anything; :class:`ReadingEnded` after :meth:`end`."""
        pause_s = FIRST_PAUSE_S
        self._reading = path
        try:
            while not self._ended.is_set():
                try:
                    return read()
                except OSError as error:
                    self._tries, self._error = self._tries + 1, error.strerror or type(error).__name__
                reopen()
                self._ended.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            raise ReadingEnded
        finally:
            self._reading, self._tries, self._error = None, 0, ""

    def end(self) -> None:
        """Try no more. A read that hangs is not woken."""
        self._ended.set()

    def in_words(self) -> str:
        """What keeps the thread that reads, as far as can be seen from another."""
        path, tries, error = self._reading, self._tries, self._error
        if path is None:
            return "a batch is not put together yet"
        if not tries:
            return f"a read of '{path}' has not come back"
        return f"'{path}' cannot be read: {error} ({tries:,} {'try' if tries == 1 else 'tries'})"
