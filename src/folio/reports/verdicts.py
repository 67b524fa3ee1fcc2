"""Comparisons in few words, for the tables of a terminal and of a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

TOKENS, BYTES = "nats_per_token", "bits_per_byte"


def score_words(measurement: str, metric: str) -> str:
    """``hellaswag completion acc_norm`` or ``loss nats/token``: it may be broken into lines between its words."""
    return f"{measurement.replace('.', ' ')} {metric.replace('_per_', '/')}"


def one_loss_each(comparisons: Iterable[T], key: Callable[[T], tuple[str, str, str, str]]) -> list[T]:
    """Those ``comparisons`` that say something of their own: bits per byte, beside nats per token, have one verdict.

    ``key`` gives the measurement, the first model, the second model and the metric.
    """
    listed = list(comparisons)
    by_token = {key(one)[:3] for one in listed if key(one)[3] == TOKENS}
    return [one for one in listed if key(one)[3] != BYTES or key(one)[:3] not in by_token]


def p_heading(tests: Iterable[int]) -> str:
    """What the column of p is called: corrected only where some p was."""
    return "p, corrected" if any(count > 1 for count in tests) else "p"


def without_columns(
    header: Sequence[str], rows: Sequence[Sequence[T]], left_out: Iterable[str]
) -> tuple[list[str], list[list[T]]]:
    """Header and rows without the columns of those names."""
    gone = set(left_out)
    kept = [index for index, name in enumerate(header) if name not in gone]
    return [header[index] for index in kept], [[row[index] for index in kept] for row in rows]
