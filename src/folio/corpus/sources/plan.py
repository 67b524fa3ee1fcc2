"""A source as an ordered list of parts, each of which can be read without the others.

The order is that of the file names and, in a parquet file, of its row groups. Nothing in a plan depends on who reads
it, so that documents keep their order and their side whatever the number of workers or restarts.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

from pydantic import BaseModel, ConfigDict

from folio.errors import DataError, nearest

RULES = 1
"""Part of every fingerprint: raised when the order of parts, or what becomes of a part's text, changes."""


class SourceChanged(DataError):
    """The source is not the one that was planned."""


@dataclass(frozen=True, slots=True)
class Part:
    """A row group of a parquet file, or the whole of a file of another kind."""

    number: int
    """Its place in the plan, from 0."""
    file: str
    """The file's name in the source."""
    index: int
    """The row group, from 0; 0 for a whole file."""
    rows: int | None
    """Documents, the empty ones among them; None where only reading tells."""
    bytes: int
    """To read: of the row group's text and id columns, or of the file as it is packed."""
    unpacked_bytes: int
    """The same unpacked; 0 where only reading tells."""
    mark: str
    """The file's mark; see :class:`SourceFile`."""

    @property
    def id(self) -> str:
        """``FILE:INDEX``, which does not depend on the rest of the source."""
        return f"{self.file}:{self.index}"


class SourceFile(BaseModel):
    """One file of a source, and where its parts lie.

    ``mark`` tells its content from another's as well as the source can: ``sha256:``, ``git:`` (a blob's SHA-1),
    ``etag:``, ``modified:``, or nothing but its size.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    """Relative to what was given, the same on every machine."""
    kind: str
    packing: str = ""
    bytes: int
    mark: str
    modified_ns: int = 0
    """When a file on this machine was last changed; no part of what it is, and in no fingerprint."""
    rows: tuple[int, ...] = ()
    """Of each row group."""
    stored_bytes: tuple[int, ...] = ()
    """Of each row group: its text and id columns as they lie in the file."""
    unpacked_bytes: tuple[int, ...] = ()

    @property
    def parts(self) -> int:
        return len(self.rows) if self.kind == ".parquet" else 1


class Plan(BaseModel):
    """All files of a source, in order, and the settings that decide its documents. It holds no place and no secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    settings: dict[str, Any]
    files: tuple[SourceFile, ...]

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of what decides the documents: names, sizes and marks of the files, rows, settings."""
        files = [[file.name, file.kind, file.packing, file.bytes, file.mark, file.rows] for file in self.files]
        content = {"rules": RULES, "settings": self.settings, "files": files}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def rows(self) -> int | None:
        """Of all parts; None where only reading tells."""
        parquet = all(file.kind == ".parquet" for file in self.files)
        return sum(sum(file.rows) for file in self.files) if parquet else None

    @property
    def bytes(self) -> int:
        """To read, of all parts."""
        return sum(sum(file.stored_bytes) if file.kind == ".parquet" else file.bytes for file in self.files)

    def __len__(self) -> int:
        """The number of parts."""
        return self._ends[-1] if self._ends else 0

    def part(self, number: int) -> Part:
        """The part at place ``number``, from 0."""
        position = bisect_right(self._ends, number)
        file = self.files[position]
        index = number - (self._ends[position] - file.parts)
        if file.kind != ".parquet":
            return Part(number, file.name, 0, None, file.bytes, 0 if file.packing else file.bytes, file.mark)
        sizes = file.rows[index], file.stored_bytes[index], file.unpacked_bytes[index]
        return Part(number, file.name, index, *sizes, file.mark)

    def parts(self) -> Iterator[Part]:
        """All parts, in order."""
        return map(self.part, range(len(self)))

    def check(self, stored: Plan) -> None:
        """:class:`SourceChanged`, naming one difference, unless this plan is the ``stored`` one of earlier work."""
        if self.fingerprint != stored.fingerprint:
            raise SourceChanged(
                f"the source has changed since this work was begun: {self._difference(stored)}",
                "Restore it to go on, or remove the unfinished work to begin anew.",
            )

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(file.parts for file in self.files))

    def _difference(self, stored: Plan) -> str:
        for key in sorted(self.settings.keys() | stored.settings.keys()):
            if (now := self.settings.get(key)) != (then := stored.settings.get(key)):
                return f"{key} was {then!r} and is {now!r}"
        files, before = ({file.name: file for file in plan.files} for plan in (self, stored))
        if gone := sorted(before.keys() - files.keys()):
            guess = nearest(gone[0], files.keys() - before.keys())
            return f"'{gone[0]}' is gone" + (f" ('{guess}' is new)" if guess else "")
        if new := sorted(files.keys() - before.keys()):
            return f"'{new[0]}' is new"
        for name, file in files.items():
            if file.bytes != before[name].bytes:
                return f"'{name}' had {before[name].bytes:,} bytes and has {file.bytes:,}"
            if file.mark != before[name].mark:
                return f"'{name}' had mark {before[name].mark or 'none'} and has {file.mark or 'none'}"
        return "its rows are divided otherwise, or another version of Folio planned it"
