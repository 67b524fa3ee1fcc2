"""What is done with each part of a source, wherever it is done: one job, asked for one part after another.

See :mod:`folio.shards.worker` for why a process that does it is a plain child.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from folio.corpus.sources import Part
from folio.shards.worker import serve

Done = TypeVar("Done", covariant=True)


@dataclass(frozen=True, slots=True)
class Told:
    """A word from a process that is not done yet: so many more bytes of text, or a note for the user."""

    text_bytes: int = 0
    note: str = ""


Tell = Callable[[Told], None]


class PartJob(Protocol[Done]):
    """Something to be done with every part, in any order and any process, to which it is sent by pickle."""

    def run(self, part: Part, tell: Tell) -> Done:
        """Do it; what is to last is on the disk before this returns."""
        ...


def main() -> None:
    """Receive a :class:`PartJob`, then parts until the parent is gone; answer each with words and what was done."""
    serve(lambda job, part, say: job.run(part, say))
