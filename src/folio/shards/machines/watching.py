"""How far all nodes are with a step, by the files that they leave, and for how long nothing has changed."""

from __future__ import annotations

import time

from folio.errors import RankLost
from folio.shards.journal import journal_file
from folio.shards.parts.journal import Journals
from folio.shards.parts.merge import PartsProgress
from folio.shards.parts.writing import Writing

ENCODE = "encode"
Seen = tuple[int, int]


class Watch:
    """What all nodes have done of a step for every part, by the files that they leave."""

    def __init__(self, writing: Writing, step: str) -> None:
        self._writing, self._step = writing, step
        self._journals = Journals(writing.folder)
        self._plan = writing.refining.source.plan
        self.done: set[int] = set()
        self._counts = dict.fromkeys(("source_bytes", "text_bytes", "documents", "tokens"), 0)
        self.wanted = len(self._plan)
        """So many of the first parts are to be done, as far as is known."""

    def look(self) -> set[int]:
        """The parts that are missing."""
        records = self._journals.look() if self._step == ENCODE else {}
        known = self.done
        if self._step == ENCODE:
            self.done, self.wanted = set(records), self._writing.allotment.parts_wanted(records, len(self._plan))
        else:
            self.done = {int(path.name.split(".")[0]) for path in self._writing.folder.glob(f"*.{self._step}.npz")}
        for number in self.done - known:
            self._counts["source_bytes"] += self._plan.part(number).bytes
            for side in records[number].sides.values() if number in records else ():
                for name in ("text_bytes", "documents", "tokens"):
                    self._counts[name] += getattr(side, name)
        return set(range(self.wanted)) - self.done

    @property
    def seen(self) -> Seen:
        """What changes as long as anybody gets on: the parts that are done, and the journal of who merges."""
        try:
            return len(self.done), journal_file(self._writing.to).stat().st_mtime_ns
        except FileNotFoundError:
            return len(self.done), 0

    def progress(self, note: str = "") -> PartsProgress:
        """How far all nodes were at the last look."""
        parts, size = len(self._plan), self._plan.bytes
        return PartsProgress(self._step, len(self.done), parts, of_bytes=size, note=note, **self._counts)


class Patience:
    """Ends the waiting when nothing has changed for ``limit_s`` seconds."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._seen: Seen | None = None
        self._since = time.monotonic()

    def heed(self, seen: Seen, what: str) -> None:
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        elif time.monotonic() - self._since > self._limit_s:
            raise RankLost(
                f"nothing was finished for {self._limit_s:,.0f} s while waiting for {what}",
                "Begin what has stopped, and this again: what is done is kept. --engine.patience-s waits longer.",
            )
