"""Trying again over a network that fails now and then: bounded, with growing pauses, and told."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from folio.corpus.hub import PATIENCE_S
from folio.errors import Unreachable

T = TypeVar("T")
Tell = Callable[[str], None]


def silently(note: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a network is waited for. With these numbers one read gives up after at most 15 s of pauses and six
    times ``stall_s`` of silence."""

    answer_s: float = PATIENCE_S
    """For the first sign of life of an address, when a source is opened."""
    stall_s: float = 20.0
    """For each later answer, and for the next bytes of one that has begun."""
    attempts: int = 6
    """Of one read."""
    first_pause_s: float = 0.5
    """After the first failure; each pause after it is twice as long."""
    longest_pause_s: float = 30.0

    def pause_s(self, failures: int) -> float:
        """The pause after so many failures; between half of its length and all of it, lest many readers that failed
        together come back together."""
        longest = min(self.longest_pause_s, self.first_pause_s * 2.0 ** (failures - 1))
        return longest * random.uniform(0.5, 1.0)


class Transient(Exception):
    """A failure that may pass. ``after_s`` is how long the other side asks to be left alone."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


def persistently(what: str, attempt: Callable[[], T], patience: Patience, tell: Tell) -> T:
    """What ``attempt`` gives, called again after each :class:`Transient` failure; ``tell`` hears of every one.

    :class:`Unreachable` when ``patience.attempts`` are used up. Any other exception passes at once.
    """
    for failures in range(1, patience.attempts + 1):
        try:
            return attempt()
        except Transient as failure:
            reason = str(failure)
            pause_s = max(patience.pause_s(failures), min(failure.after_s, patience.longest_pause_s))
        if failures < patience.attempts:
            tell(f"{what}: {reason}; trying again in {pause_s:.1f} s ({failures} of {patience.attempts} attempts)")
            time.sleep(pause_s)
    raise Unreachable(
        f"{what}: {reason}, {patience.attempts} times in a row",
        "Check the network and run the same command again: what is done is kept.",
    )
