"""Being asked to stop: by Ctrl-C, by a scheduler that pre-empts, by a terminal that closes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))


class StopNow(Exception):
    """Out of what is under way, when the run is asked to stop."""


class StopRequest:
    """Set by the first signal; a second one interrupts at once.

    SIGINT is Ctrl-C, SIGTERM comes from ``kill``, schedulers and ``torchrun``, SIGHUP from a terminal that closes
    (unless it is ignored, as under ``nohup``), SIGUSR1 from ``sbatch --signal=USR1@120``.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number in (signal.SIGINT, signal.SIGTERM):
            raise KeyboardInterrupt
        self.signal = self.signal or signal.Signals(number)

    @property
    def made(self) -> bool:
        return self.signal is not None

    @classmethod
    @contextmanager
    def listening(cls) -> Iterator[StopRequest]:
        request = cls()
        try:
            previous = {number: signal.getsignal(number) for number in SIGNALS}
            heard = [number for number in SIGNALS if previous[number] is not signal.SIG_IGN]
            for number in heard:
                signal.signal(number, request)
        except ValueError:  # not the main thread: signals go elsewhere
            yield request
            return
        try:
            yield request
        finally:
            for number in heard:
                signal.signal(number, previous[number])
