"""Encoded parts appended to the shards in the order of the plan, their files removed once that is on the disk."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

from folio.artifacts import write_file
from folio.checksums import FileRecord
from folio.corpus.quality import QualityReport
from folio.corpus.sources import PartCounts
from folio.errors import DataError
from folio.shards.files import SplitWriter
from folio.shards.journal import SplitProgress, Workplace
from folio.shards.parts.job import Told
from folio.shards.parts.journal import (
    SIDES,
    PartRecord,
    PartsJournal,
    files_of,
    ids_of,
    is_whole,
    layout_of,
    part_file,
    processes_in,
    records_in,
)
from folio.shards.parts.pool import PartsPool
from folio.shards.parts.writing import Writing
from folio.shards.write import SAVE_EVERY_S

DOCUMENTS = "documents.json"
"""Beside the shards: what became of the source's documents."""
SEEN_EVERY_S = 10.0
"""How often the journal is written while nothing changes, for those that wait to see that someone is at work."""
LEFT_BEHIND = (".ids", ".layout", ".unfinished")


@dataclass(frozen=True, slots=True)
class PartsProgress:
    """How far a writing has come. ``note`` is a sentence for the user, now and then."""

    step: str
    """"survey" and "shingles" where duplicates are sought, then "encode"."""
    parts: int
    """Done of this step."""
    of_parts: int
    source_bytes: int
    """Read of the source, as it is packed."""
    of_bytes: int
    text_bytes: int
    """Encoded, those of parts under way among them."""
    documents: int
    tokens: int
    note: str = ""


class Merging:
    """One sitting of a writing: what is encoded and what is merged."""

    def __init__(
        self, writing: Writing, place: Workplace, tell: Callable[[PartsProgress], None], alone: bool = True
    ) -> None:
        self.writing, self.place = writing, place
        self._alone = alone and not processes_in(writing.folder)
        self.counts, self.report = PartCounts(), QualityReport()
        splits = place.journal.splits
        self.merged = splits[SIDES[0]].chunks if splits else 0
        """Parts that are in the shards; each is in both sides' count."""
        for other in place.shards.parent.glob("parts-*") if self._alone else ():
            if other != writing.folder:
                shutil.rmtree(other, ignore_errors=True)
        self.journal = PartsJournal(writing.folder / "journal.jsonl")
        self._tell, self._lock = tell, Lock()
        plan, done = writing.refining.source.plan, splits.values()
        words = sum(each.text_bytes for each in done), sum(each.documents for each in done)
        tokens = sum(each.tokens for each in done)
        self._so_far = PartsProgress("encode", 0, len(plan), 0, plan.bytes, *words, tokens, place.note)
        self._silent = True
        self._waiting = self._taken_up()
        self._silent = False
        self._count()  # where this sitting begins

    def _taken_up(self) -> dict[int, PartRecord]:
        """What the journals know: count what is merged, keep whole parts that wait, clear up the rest."""
        folder, dtype = self.writing.folder, self.writing.encoding.dtype
        waiting, kept, saved = {}, set(), time.monotonic()
        for number, record in sorted(records_in(folder).items()):
            if number < self.merged:
                self._add(record)
                self._report(record, text_bytes=0, documents=0, tokens=0)
            elif is_whole(folder, record, dtype):
                kept |= set(files_of(folder, record))
                self._report(record)
                self.place.holds_work = True
                waiting[number] = record
            if time.monotonic() - saved >= SEEN_EVERY_S:
                self.place.save()
                saved = time.monotonic()
        for file in folder.iterdir() if self._alone else ():
            if file.suffix in LEFT_BEHIND and file not in kept:
                file.unlink()
        return waiting

    def close(self) -> None:
        self.journal.close()

    def run(self, workers: int) -> None:
        """Encode and merge what is left."""
        journal, folder = self.place.journal, self.place.shards
        splits = {side: journal.splits.setdefault(side, SplitProgress()) for side in SIDES}
        dtype, per_shard = self.writing.encoding.dtype, journal.job["tokens_per_shard"]
        writers = {side: SplitWriter(folder, side, dtype, per_shard, done.tokens) for side, done in splits.items()}
        step = self.writing.encoding_step()
        assert step.job is not None
        try:
            with PartsPool[PartRecord](step.job, workers, self._told, self._encoded) as pool:
                saved, finished = time.monotonic(), list[PartRecord]()
                for record in self._in_order(pool):
                    self._merge(record, writers)
                    finished.append(record)
                    if time.monotonic() - saved >= SAVE_EVERY_S:
                        self._save(writers, finished)
                        saved, finished = time.monotonic(), []
            for side, done in splits.items():
                if not done.documents:
                    self.place.discard()
                    raise self._without(side)
                writers[side].finish()
                done.complete = True
            self._describe()
            self._save(writers, finished)
        finally:
            for writer in writers.values():
                writer.abandon()

    def _without(self, side: str) -> DataError:
        counts, there = self.counts.cleaning, sum(done.documents for done in self.place.journal.splits.values())
        read = f"of {counts.kept + counts.empty:,} documents read {counts.empty:,} are empty and {there:,} are left"
        rule = self.place.journal.job["source"]["sides"]
        held_out = ", ".join(f"{key} {value}" for key, value in rule.items())
        return DataError(
            f"the split '{side}' has no documents: {read}, divided by {held_out}",
            "Hold out more or fewer (held_out, validation_fraction, tokens_per_shard), or give more text.",
        )

    def _in_order(self, pool: PartsPool[PartRecord]) -> Iterator[PartRecord]:
        """The record of every part that is to be merged: those that wait since an earlier sitting, and the new ones."""
        last = self.writing.parts
        missing = [number for number in range(self.merged, last) if number not in self._waiting]
        fresh = pool.run(map(self.writing.refining.source.plan.part, missing))
        for number in range(self.merged, last):
            if self.writing.allotment.is_reached(self._tokens()):
                return
            if number not in self._waiting and self.writing.between:
                raise self._lacking(number)
            yield self._waiting.pop(number) if number in self._waiting else next(fresh)

    def _lacking(self, number: int) -> DataError:
        """What is done to the documents between reading and encoding is not known here."""
        for side in SIDES:
            part_file(self.writing.folder, number, side).unlink(missing_ok=True)  # of a damaged part, to be made anew
        part = self.writing.refining.source.plan.part(number).id
        return DataError(
            f"'{part}' is not encoded, and only the pipeline with '{self.writing.between}' can do that",
            "Run the pipeline again, then merge: what is done is kept.",
        )

    def _tokens(self) -> dict[str, int]:
        return {side: done.tokens for side, done in self.place.journal.splits.items()}

    def _merge(self, record: PartRecord, writers: dict[str, SplitWriter]) -> None:
        folder, dtype, splits = self.writing.folder, self.writing.encoding.dtype, self.place.journal.splits
        layout = layout_of(folder, record) if record.layout_sha256 else None
        for run in self.writing.allotment.runs(record, layout, self._tokens()):
            for ids in ids_of(part_file(folder, record.number, run.side), dtype, run.start, run.tokens):
                writers[run.to].write(ids)
            done = splits[run.to]
            done.documents += run.documents
            done.text_bytes += run.text_bytes
            done.tokens += run.tokens
            done.digest = hashlib.sha256(f"{done.digest}:{record.sides[run.side].sha256}".encode()).hexdigest()
            assert writers[run.to].tokens == done.tokens
        for done in splits.values():
            done.chunks += 1
        self._add(record)

    def _add(self, record: PartRecord) -> None:
        self.counts.add(record.counts())
        self.report += record.report()

    def _describe(self) -> None:
        """Leave a file that says what became of the documents of the parts that were merged."""
        parts = self.place.journal.splits[SIDES[0]].chunks
        content = {"parts": parts, "counts": asdict(self.counts)}
        if self.report.steps:
            content["quality"] = self.report.record()
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        write_file(self.place.shards / DOCUMENTS, text)
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        self.place.journal.files[DOCUMENTS] = FileRecord(bytes=len(text.encode()), sha256=sha256)

    def _save(self, writers: dict[str, SplitWriter], finished: list[PartRecord]) -> None:
        """Make what is merged last, and only then remove the files that it came from."""
        for writer in writers.values():
            writer.sync()
            self.place.journal.files.update(writer.files)
        self.place.save()
        for record in finished:
            for file in files_of(self.writing.folder, record):
                file.unlink(missing_ok=True)

    def _encoded(self, record: PartRecord) -> None:
        with self._lock:
            self.journal.add(record)
            self.place.holds_work = True
            self._report(record, text_bytes=0)  # which was told on the way

    def _told(self, told: Told) -> None:
        with self._lock:
            self._count(text_bytes=told.text_bytes, note=told.note)

    def _report(self, record: PartRecord, **instead: int) -> None:
        sides = record.sides.values()
        grown = {name: sum(getattr(side, name) for side in sides) for name in ("documents", "text_bytes", "tokens")}
        read = self.writing.refining.source.plan.part(record.number).bytes
        self._count(parts=1, source_bytes=read, **{**grown, **instead})

    def _count(self, note: str = "", **grown: Any) -> None:
        so_far = {**asdict(self._so_far), "note": note or self._so_far.note}
        for name, count in grown.items():
            so_far[name] += count
        self._so_far = PartsProgress(**{**so_far, "note": "" if not self._silent else so_far["note"]})
        if not self._silent:
            self._tell(PartsProgress(**so_far))
