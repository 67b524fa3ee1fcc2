"""What a step says about a text: that it goes and why, or that it stays and what was changed in it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a document is dropped: the rule, what was ``found`` ("12 words"), and the character an example shows from."""

    reason: str
    found: str = ""
    at: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """One kind of change to a text that stays: how many times, and where the new text first shows it."""

    reason: str
    hits: int
    at: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The text as it leaves a step, with the fault if it goes and the changes if it stays; and which items of
    benchmarks were met in it, each as (benchmark, id)."""

    text: str
    fault: Fault | None = None
    changes: tuple[Change, ...] = ()
    met: tuple[tuple[str, str], ...] = ()
