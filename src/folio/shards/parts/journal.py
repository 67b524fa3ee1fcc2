"""Which parts of a source are encoded: one line each, appended once the files it speaks of are on the disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from io import FileIO
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from folio.corpus.cleaning import CleaningCounts
from folio.corpus.sources import Part, PartCounts
from folio.shards.format import IdType
from folio.shards.stream import Ids

BLOCK_IDS = 1 << 20


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

    @classmethod
    def of(cls, part: Part, sides: Mapping[str, SideRecord], counts: PartCounts) -> PartRecord:
        return cls(
            number=part.number,
            part=part.id,
            sides=dict(sides),
            cleaning=asdict(counts.cleaning),
            damaged=counts.damaged,
            damaged_rows=counts.damaged_rows,
        )

    def counts(self) -> PartCounts:
        known = {each.name for each in fields(CleaningCounts)}
        cleaning = CleaningCounts(**{name: count for name, count in self.cleaning.items() if name in known})
        return PartCounts(cleaning, self.damaged, self.damaged_rows)


class PartsJournal:
    """The lines of ``path``. A last line that a kill cut short is cut off; its part is encoded again."""

    def __init__(self, path: Path) -> None:
        self.records: dict[int, PartRecord] = {}
        self._file = FileIO(path, "a+")
        self._file.seek(0)
        sound = 0
        for line in self._file.readall().splitlines(keepends=True):
            try:
                record = PartRecord.model_validate_json(line)
            except ValidationError:
                break
            if not line.endswith(b"\n"):
                break
            self.records[record.number] = record
            sound += len(line)
        self._file.truncate(sound)

    def add(self, record: PartRecord) -> None:
        """Make ``record`` last."""
        line = record.model_dump_json().encode() + b"\n"
        while line:
            line = line[self._file.write(line) :]
        os.fsync(self._file.fileno())
        self.records[record.number] = record

    def close(self) -> None:
        self._file.close()


def part_file(folder: Path, number: int, side: str) -> Path:
    """Where one side of a part lies until it is merged: its ids, with nothing before or behind them."""
    return folder / f"{number:08d}.{side}.ids"


def ids_of(folder: Path, record: PartRecord, side: str, dtype: IdType) -> Iterator[Ids]:
    """The ids of one side of a part, in blocks."""
    with open(part_file(folder, record.number, side), "rb") as file:
        while content := file.read(BLOCK_IDS * dtype.itemsize):
            yield np.frombuffer(content, dtype=dtype)


def is_whole(folder: Path, record: PartRecord, dtype: IdType) -> bool:
    """Whether the files of a part are there as they were written."""
    for side, about in record.sides.items():
        path = part_file(folder, record.number, side)
        if not path.is_file() or path.stat().st_size != about.tokens * dtype.itemsize:
            return False
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != about.sha256:
                return False
    return True
