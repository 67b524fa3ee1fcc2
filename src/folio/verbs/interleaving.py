"""Timing several things fairly: in turns, so that a machine that speeds up or slows down does so for all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def interleaved(things: list[Callable[[], Any]], rounds: int, warmup: int = 1) -> list[list[float]]:
    """Seconds of each thing in each round, run A B A B ..., after ``warmup`` rounds that do not count."""
    times: list[list[float]] = [[] for _ in things]
    for number in range(warmup + rounds):
        for thing, seconds in zip(things, times, strict=True):
            start = time.perf_counter()
            thing()
            if number >= warmup:
                seconds.append(time.perf_counter() - start)
    return times
