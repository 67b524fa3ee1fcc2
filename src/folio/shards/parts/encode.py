"""What is done with a part of a source: read it, divide it, encode it, and leave its ids in a file a side.

A part's file has its name only once its content is on the disk, and its sha256 is in the part's record: a part is there
whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from folio.artifacts import sync
from folio.corpus.document import Document
from folio.corpus.quality import QualityReport
from folio.corpus.sources import Part, PartCounts, Sides
from folio.shards.chunks import Chunk, chunks_of
from folio.shards.parts.job import Tell, Told
from folio.shards.parts.journal import LAYOUT, SIDES, Layout, PartRecord, SideRecord, layout_file, part_file
from folio.shards.parts.refining import Refining
from folio.shards.stream import Ids
from folio.shards.worker import Encoding

TOGETHER_BYTES = 1 << 20
"""Characters of a side's documents that are gathered before they are encoded."""
TOLD_EVERY_S = 1.0


@dataclass(frozen=True)
class EncodeParts:
    """All that turns parts into files of ids. ``layouts``: whether to note the size of each document."""

    refining: Refining
    sides: Sides
    encoding: Encoding
    folder: Path
    layouts: bool

    def run(self, part: Part, tell: Tell) -> PartRecord:
        """Write the files of ``part``; memory is that of reading it, and a few mebibytes and the longest document a
        side."""
        counts, report = PartCounts(), QualityReport()
        with PartWriter(self, part, tell) as writer:
            for document in self.refining.documents(part, counts, report, lambda note: tell(Told(note=note))):
                writer.add(document)
            return writer.finish(counts, report)


class PartWriter:
    """The files of one part; none has its name before :meth:`finish`."""

    def __init__(self, job: EncodeParts, part: Part, tell: Tell) -> None:
        self._job, self._part, self._tell = job, part, tell
        self._files = [_SideFile(job, part, side) for side in SIDES]
        self._sides = bytearray()
        self._untold, self._told_at = 0, time.monotonic()

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            file.abandon()

    def add(self, document: Document) -> None:
        """Take the next document of the part."""
        side = SIDES.index(self._job.sides.side(self._part, document))
        self._sides.append(side)
        self._untold += self._files[side].add(document)
        if time.monotonic() - self._told_at >= TOLD_EVERY_S:
            self._tell(Told(self._untold))
            self._untold, self._told_at = 0, time.monotonic()

    def finish(self, counts: PartCounts, report: QualityReport) -> PartRecord:
        """Make the part last, and give what its journal is to say of it."""
        self._untold += sum(file.finish() for file in self._files)
        summed = self._write_layout() if self._job.layouts else ""
        sync(self._job.folder)
        self._tell(Told(self._untold))
        records = {side: file.record for side, file in zip(SIDES, self._files, strict=True) if file.record.tokens}
        return PartRecord.of(self._part, records, counts, report, summed)

    def _write_layout(self) -> str:
        layout: Layout = np.zeros(len(self._sides), dtype=LAYOUT)
        layout["side"] = np.frombuffer(self._sides, dtype="u1")
        for side, file in enumerate(self._files):
            of_side = layout["side"] == side
            layout["tokens"][of_side], layout["text_bytes"][of_side] = file.tokens, file.text_bytes
        path = layout_file(self._job.folder, self._part.number)
        unfinished = _unfinished(path)
        with open(unfinished, "wb") as file_:
            file_.write(layout.tobytes())
            os.fsync(file_.fileno())
        os.replace(unfinished, path)
        return hashlib.sha256(layout.tobytes()).hexdigest()


class _SideFile:
    """The ids of one side of one part; no file until there is a document."""

    def __init__(self, job: EncodeParts, part: Part, side: str) -> None:
        self._encoding, self._layouts = job.encoding, job.layouts
        self._path = part_file(job.folder, part.number, side)
        self._gathered: list[Document] = []
        self._characters = 0
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self.record = SideRecord()
        self.tokens = array("Q")
        """Of each document, where layouts are wanted; and the bytes of its text."""
        self.text_bytes = array("Q")

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
            os.replace(_unfinished(self._path), self._path)
            self.record = self.record.model_copy(update={"sha256": self._digest.hexdigest()})
        return written

    def abandon(self) -> None:
        if self._file is not None:
            self._file.close()
            _unfinished(self._path).unlink(missing_ok=True)

    def _write(self) -> int:
        before = self.record.text_bytes
        for chunk in chunks_of(self._drained(), self._encoding.tokenizer, digested=False):
            ids = self._encoding.encode(chunk.pieces)
            if self._layouts:
                self._note(chunk, ids)
            if self._file is None:
                self._file = open(_unfinished(self._path), "wb")  # noqa: SIM115
            content = ids.data.cast("B")
            self._digest.update(content)
            self._file.write(content)
            self.record = SideRecord(
                documents=self.record.documents + chunk.counts.documents,
                text_bytes=self.record.text_bytes + chunk.counts.text_bytes,
                tokens=self.record.tokens + len(ids),
            )
        return self.record.text_bytes - before

    def _note(self, chunk: Chunk, ids: Ids) -> None:
        """The size of each document in the chunk; one that began in an earlier chunk grows."""
        starts = np.flatnonzero(ids == self._encoding.eot_id)
        assert len(starts) == chunk.counts.documents
        before = int(starts[0]) if len(starts) else len(ids)
        if before:
            self.tokens[-1] += before
        self.tokens.extend(np.diff(starts, append=len(ids)).tolist())
        for piece in chunk.pieces:
            if piece.starts_document:
                self.text_bytes.append(0)
            self.text_bytes[-1] += piece.text_bytes

    def _drained(self) -> Iterator[Document]:
        """The gathered documents, each let go of as it is handed on."""
        documents, self._gathered, self._characters = self._gathered[::-1], [], 0
        while documents:
            yield documents.pop()


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.unfinished")
