"""What one process does with a part of a source: read it, divide it, encode it, and leave its ids in a file a side.

See :mod:`folio.shards.worker` for why it is a plain child. A part's file has its name only once its content is on the
disk, and its sha256 is known to the parent: a part is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from folio.artifacts import sync
from folio.corpus.document import Document
from folio.corpus.sources import Part, PartCounts, Sides, Source
from folio.shards.chunks import chunks_of
from folio.shards.parts.journal import PartRecord, SideRecord, part_file
from folio.shards.worker import Encoding, serve

SIDES = ("train", "val")
TOGETHER_BYTES = 1 << 20
"""Characters of a side's documents that are gathered before they are encoded."""
TOLD_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Told:
    """A word from a process that is not done yet: so many more bytes of text, or a note for the user."""

    text_bytes: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class PartEncoding:
    """All that turns parts into files of ids."""

    source: Source
    sides: Sides
    encoding: Encoding
    folder: Path

    def encode(self, part: Part, tell: Callable[[Told], None]) -> PartRecord:
        """Write the files of ``part``; memory is that of reading it, and a few mebibytes and the longest document a
        side."""
        counts, begun = PartCounts(), time.monotonic()
        files = {side: _SideFile(self, part, side) for side in SIDES}
        untold = 0
        try:
            for document in self.source.documents(part, counts, lambda note: tell(Told(note=note))):
                untold += files[self.sides.side(part, document)].add(document)
                if time.monotonic() - begun >= TOLD_EVERY_S:
                    tell(Told(untold))
                    untold, begun = 0, time.monotonic()
            untold += sum(file.finish() for file in files.values())
        finally:
            for file in files.values():
                file.abandon()
        sync(self.folder)
        tell(Told(untold))
        return PartRecord.of(part, {side: file.record for side, file in files.items() if file.record.tokens}, counts)


class _SideFile:
    """The ids of one side of one part; no file until there is a document."""

    def __init__(self, job: PartEncoding, part: Part, side: str) -> None:
        self._encoding = job.encoding
        self._path = part_file(job.folder, part.number, side)
        self._gathered: list[Document] = []
        self._characters = 0
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self.record = SideRecord()

    def add(self, document: Document) -> int:
        """Take one document; gives the bytes of text that were written, which may be its own and others' or none."""
        self._gathered.append(document)
        self._characters += len(document.text)
        return self._write() if self._characters >= TOGETHER_BYTES else 0

    def finish(self) -> int:
        """Write what is left, force it to the disk, and give the file its name; gives the bytes of text written."""
        written = self._write()
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
            os.replace(self._unfinished(), self._path)
            self.record = self.record.model_copy(update={"sha256": self._digest.hexdigest()})
        return written

    def abandon(self) -> None:
        if self._file is not None:
            self._file.close()
            self._unfinished().unlink(missing_ok=True)

    def _write(self) -> int:
        before = self.record.text_bytes
        for chunk in chunks_of(self._drained(), self._encoding.tokenizer):
            ids = self._encoding.encode(chunk.pieces)
            if self._file is None:
                self._file = open(self._unfinished(), "wb")  # noqa: SIM115
            content = ids.data.cast("B")
            self._digest.update(content)
            self._file.write(content)
            self.record = SideRecord(
                documents=self.record.documents + chunk.counts.documents,
                text_bytes=self.record.text_bytes + chunk.counts.text_bytes,
                tokens=self.record.tokens + len(ids),
            )
        return self.record.text_bytes - before

    def _drained(self) -> Iterator[Document]:
        """The gathered documents, each let go of as it is handed on."""
        documents, self._gathered, self._characters = self._gathered[::-1], [], 0
        while documents:
            yield documents.pop()

    def _unfinished(self) -> Path:
        return self._path.with_suffix(".unfinished")


def main() -> None:
    """Receive a :class:`PartEncoding`, then parts until the parent is gone; answer each with words and its record."""
    serve(lambda job, part, say: job.encode(part, say))
