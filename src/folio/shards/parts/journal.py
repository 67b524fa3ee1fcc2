"""Which parts of a source are encoded: one line each, appended once the files it speaks of are on the disk.

Beside the ids of a part may lie its layout: side, tokens and bytes of text of each of its documents, in order.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from folio.checksums import sha256_of
from folio.corpus.cleaning import CleaningCounts
from folio.corpus.quality import QualityReport
from folio.corpus.sources import Part, PartCounts
from folio.shards.format import IdType
from folio.shards.stream import Ids

BLOCK_IDS = 1 << 20
SIDES = ("train", "val")
LAYOUT = np.dtype([("side", "u1"), ("tokens", "<u8"), ("text_bytes", "<u8")])
"""One document; ``side`` is its place in :data:`SIDES`."""
JOURNALS = "journal*.jsonl"

Layout = NDArray[Any]


class SideRecord(BaseModel):
    """One side of one part."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    documents: int = 0
    text_bytes: int = 0
    tokens: int = 0
    sha256: str = ""


class PartRecord(BaseModel):
    """One encoded part: its place and name in the plan, its sides that have documents, and what became of its rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    number: int
    part: str
    sides: dict[str, SideRecord]
    cleaning: dict[str, int]
    damaged: int
    damaged_rows: int
    quality: dict[str, Any] = {}
    """The record of a :class:`QualityReport`; empty without quality steps."""
    layout_sha256: str = ""
    """Of the layout; empty without one."""

    @classmethod
    def of(
        cls,
        part: Part,
        sides: Mapping[str, SideRecord],
        counts: PartCounts,
        report: QualityReport,
        layout_sha256: str = "",
    ) -> PartRecord:
        return cls(
            number=part.number,
            part=part.id,
            sides=dict(sides),
            cleaning=asdict(counts.cleaning),
            damaged=counts.damaged,
            damaged_rows=counts.damaged_rows,
            quality=report.record() if report.steps else {},
            layout_sha256=layout_sha256,
        )

    def counts(self) -> PartCounts:
        known = {each.name for each in fields(CleaningCounts)}
        cleaning = CleaningCounts(**{name: count for name, count in self.cleaning.items() if name in known})
        return PartCounts(cleaning, self.damaged, self.damaged_rows)

    def report(self) -> QualityReport:
        return QualityReport.from_record(self.quality) if self.quality else QualityReport()


class PartsJournal:
    """The lines of ``path``. A last line that a kill cut short is cut off; its part is encoded again."""

    def __init__(self, path: Path) -> None:
        self._file = FileIO(path, "a+")
        self._file.seek(0)
        self.records, sound = _sound_lines(self._file.readall())
        self._file.truncate(sound)

    def add(self, record: PartRecord) -> None:
        """Make ``record`` last; a line that the disk does not take whole is taken back."""
        line, sound = record.model_dump_json().encode() + b"\n", self._file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(sound)
            raise
        self.records[record.number] = record

    def close(self) -> None:
        self._file.close()


def records_in(folder: Path, wanted: Container[int] | None = None) -> dict[int, PartRecord]:
    """What the journals of all processes that work in ``folder`` say, each of which may still be written to; of the
    parts ``wanted``, or of all."""
    found: dict[int, PartRecord] = {}
    for path in sorted(folder.glob(JOURNALS)):
        with suppress(FileNotFoundError):  # all is merged, and the folder is being cleared up
            records = _sound_lines(path.read_bytes())[0].items()
            found |= {number: record for number, record in records if wanted is None or number in wanted}
    return found


class Journals:
    """The same, looked at again and again; each look reads only what is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self._records: dict[int, PartRecord] = {}

    def look(self) -> dict[int, PartRecord]:
        for path in sorted(self._folder.glob(JOURNALS)):
            with suppress(FileNotFoundError), open(path, "rb") as file:
                file.seek(self._read.get(path, 0))
                records, sound = _sound_lines(file.read())
                self._records |= records
                self._read[path] = self._read.get(path, 0) + sound
        return self._records


def _sound_lines(content: bytes) -> tuple[dict[int, PartRecord], int]:
    """The records of whole lines, and the bytes that these take."""
    records: dict[int, PartRecord] = {}
    sound = 0
    for line in content.splitlines(keepends=True):
        try:
            record = PartRecord.model_validate_json(line)
        except ValidationError:
            break
        if not line.endswith(b"\n"):
            break
        records[record.number] = record
        sound += len(line)
    return records, sound


def process_file(folder: Path, rank: int) -> Path:
    """Where the process that does a rank leaves its number, while it does."""
    return folder / f"rank-{rank:05d}.process"


def processes_in(folder: Path) -> bool:
    """Whether any machine's process does a share of the work in ``folder``, or was killed while it did."""
    return any(folder.glob("rank-*.process"))


def part_file(folder: Path, number: int, side: str) -> Path:
    """Where one side of a part lies until it is merged: its ids, with nothing before or behind them."""
    return folder / f"{number:08d}.{side}.ids"


def layout_file(folder: Path, number: int) -> Path:
    """Where the layout of a part lies until it is merged."""
    return folder / f"{number:08d}.layout"


def files_of(folder: Path, record: PartRecord) -> list[Path]:
    """All files of a part."""
    layout = [layout_file(folder, record.number)] if record.layout_sha256 else []
    return [part_file(folder, record.number, side) for side in record.sides] + layout


def layout_of(folder: Path, record: PartRecord) -> Layout:
    """The documents of a part, (documents,) of :data:`LAYOUT`."""
    return np.fromfile(layout_file(folder, record.number), dtype=LAYOUT)


def ids_of(path: Path, dtype: IdType, start: int, count: int) -> Iterator[Ids]:
    """So many ids of a part's file from ``start`` on, in blocks."""
    with open(path, "rb") as file:
        file.seek(start * dtype.itemsize)
        while count and (content := file.read(min(count, BLOCK_IDS) * dtype.itemsize)):
            yield (ids := np.frombuffer(content, dtype=dtype))
            count -= len(ids)


def is_there(folder: Path, record: PartRecord, dtype: IdType) -> bool:
    """Whether the files of a part are there and as long as they were written."""
    for side, about in record.sides.items():
        path = part_file(folder, record.number, side)
        if not path.is_file() or path.stat().st_size != about.tokens * dtype.itemsize:
            return False
    return not record.layout_sha256 or layout_file(folder, record.number).is_file()


def is_whole(folder: Path, record: PartRecord, dtype: IdType) -> bool:
    """Whether the files of a part are there as they were written."""
    if not is_there(folder, record, dtype):
        return False
    for side, about in record.sides.items():
        if sha256_of(part_file(folder, record.number, side)) != about.sha256:
            return False
    return not record.layout_sha256 or sha256_of(layout_file(folder, record.number)) == record.layout_sha256
