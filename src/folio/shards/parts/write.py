"""A large source to shards: its parts encoded by several processes, merged in the order of the plan.

Every part becomes a file of ids beside the target, with a line in a journal; parts whose turn it is are appended to the
shards and their files removed. So a kill costs the parts under way, and the disk holds little more than the shards.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from folio.artifacts import Parent, write_file
from folio.corpus.sources import PartCounts, Plan, Sides, Source
from folio.errors import ArtifactError, DataError, Interrupted
from folio.shards.config import ShardsConfig
from folio.shards.files import SplitWriter
from folio.shards.folder import Shards, open_shards
from folio.shards.format import dtype_for
from folio.shards.journal import SplitProgress, Workplace, partial_folder, workplace
from folio.shards.parts.encode import SIDES, PartEncoding, Told
from folio.shards.parts.journal import PartRecord, PartsJournal, ids_of, is_whole, part_file
from folio.shards.parts.pool import PartsPool
from folio.shards.pool import cores
from folio.shards.worker import NO_ROOM, Encoding
from folio.shards.write import SAVE_EVERY_S, finish, is_done, job_of

if TYPE_CHECKING:
    from folio.tokenizer import Tokenizer

PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class PartsProgress:
    """How far a writing has come. ``note`` is a sentence for the user, now and then."""

    parts: int
    """Encoded."""
    of_parts: int
    source_bytes: int
    """Read of the source, as it is packed."""
    of_bytes: int
    text_bytes: int
    """Encoded, those of parts under way among them."""
    documents: int
    tokens: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class PartsWritten:
    """Finished shards, and what became of the source's documents; the counts are None where nothing was to be done."""

    shards: Shards
    counts: PartCounts | None


def write_parts(
    source: Source,
    tokenizer: Tokenizer,
    to: Path,
    config: ShardsConfig | None = None,
    *,
    sides: Sides,
    parents: Iterable[Parent] = (),
    on_progress: Callable[[PartsProgress], None] | None = None,
) -> PartsWritten:
    """Encode every part of ``source`` into the new folder ``to``, divided by ``sides`` into train and val.

    The bytes are those that :func:`folio.shards.write_shards` writes of the same documents in the order of the plan,
    whatever the number of workers and however often the writing was killed. ``on_progress`` is called by one thread at
    a time, not always the caller's.

    Raises :class:`folio.corpus.sources.SourceChanged` if unfinished work beside ``to`` is of another plan;
    :class:`DataError` for a side without documents, or what reading raises; :class:`ArtifactError` when ``to`` holds
    something else or the disk is full; :class:`Interrupted` on Ctrl-C. The same call goes on from where it stopped.
    """
    config = config or ShardsConfig()
    rule = {"kind": type(sides).__name__, **asdict(sides)}
    about = {"fingerprint": source.fingerprint, "files": len(source.plan.files), "parts": len(source.plan)}
    job = job_of(dict.fromkeys(SIDES), tokenizer, config, {**about, "sides": rule})
    if is_done(to, job):
        shutil.rmtree(partial_folder(to), ignore_errors=True)
        return PartsWritten(open_shards(to, tokenizer), None)
    _refuse_changed(source, partial_folder(to) / PLAN)
    encoding = Encoding(tokenizer, job["tokenizer"]["eot_id"], dtype_for(tokenizer.vocab_size))
    try:
        with workplace(to, job) as place:
            write_file(partial_folder(to) / PLAN, source.plan.model_dump_json())
            work = _Work(source, place, encoding, on_progress or (lambda progress: None))
            try:
                work.run(sides, config.workers or cores())
            finally:
                work.close()
            finish(place, parents)
    except KeyboardInterrupt:
        raise Interrupted(f"writing '{to}' was stopped; the same command goes on from where it stopped") from None
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise ArtifactError(
            f"no room on the disk for '{to}': {error.strerror}",
            "Free some space and run the same command again: it goes on from where it stopped.",
        ) from None
    return PartsWritten(open_shards(to, tokenizer, verify=False), work.counts)


def _refuse_changed(source: Source, plan: Path) -> None:
    with suppress(OSError, ValidationError):
        stored = Plan.model_validate_json(plan.read_bytes())
        try:
            source.plan.check(stored)
        except DataError as error:
            remedy = f"Restore it to go on, or remove '{plan.parent}' to begin anew."
            raise type(error)(error.problem, remedy) from None


class _Work:
    """One sitting of a writing: what is encoded and what is merged."""

    def __init__(
        self, source: Source, place: Workplace, encoding: Encoding, tell: Callable[[PartsProgress], None]
    ) -> None:
        self.source, self.place, self.encoding = source, place, encoding
        self.counts = PartCounts()
        splits = place.journal.splits
        self.merged = splits[SIDES[0]].chunks if splits else 0
        """Parts that are in the shards; each is in both sides' count."""
        digest = hashlib.sha256(json.dumps(place.journal.job, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = place.shards.with_name(f"parts-{digest}")
        for other in place.shards.parent.glob("parts-*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)
        self.folder.mkdir(exist_ok=True)
        self.journal = PartsJournal(self.folder / "journal.jsonl")
        self._tell, self._lock = tell, Lock()
        total = len(source.plan), source.plan.bytes
        done = splits.values()
        words = sum(each.text_bytes for each in done), sum(each.documents for each in done)
        self._so_far = PartsProgress(0, total[0], 0, total[1], *words, sum(each.tokens for each in done), place.note)
        self._take_up()

    def _take_up(self) -> None:
        """Go on from the journal: count what is merged, keep whole parts that wait, clear up the rest."""
        kept = set()
        for number, record in sorted(self.journal.records.items()):
            if number < self.merged:
                self.counts.add(record.counts())
                self._report(record, text_bytes=0, documents=0, tokens=0)
            elif is_whole(self.folder, record, self.encoding.dtype):
                kept |= {part_file(self.folder, number, side) for side in record.sides}
                self._report(record)
                self.place.holds_work = True
                continue
            del self.journal.records[number]
        for file in self.folder.iterdir():
            if file.suffix in (".ids", ".unfinished") and file not in kept:
                file.unlink()

    def close(self) -> None:
        self.journal.close()

    def run(self, sides: Sides, workers: int) -> None:
        """Encode and merge what is left."""
        job = PartEncoding(self.source, sides, self.encoding, self.folder)
        per_shard = self.place.journal.job["tokens_per_shard"]
        splits = {side: self.place.journal.splits.setdefault(side, SplitProgress()) for side in SIDES}
        writers = {
            side: SplitWriter(self.place.shards, side, self.encoding.dtype, per_shard, done.tokens)
            for side, done in splits.items()
        }
        try:
            with PartsPool(job, workers, self._told, self._encoded) as pool:
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
                    raise DataError(f"the split '{side}' has no documents", "Change what is held out, or the source.")
                writers[side].finish()
                done.complete = True
            self._save(writers, finished)
        finally:
            for writer in writers.values():
                writer.abandon()

    def _in_order(self, pool: PartsPool) -> Iterator[PartRecord]:
        """The record of every part that is not merged: those that wait since an earlier sitting, and the new ones."""
        waiting = dict(self.journal.records)
        missing = [number for number in range(self.merged, len(self.source.plan)) if number not in waiting]
        fresh = pool.encode(map(self.source.plan.part, missing))
        for number in range(self.merged, len(self.source.plan)):
            yield waiting.pop(number) if number in waiting else next(fresh)

    def _merge(self, record: PartRecord, writers: dict[str, SplitWriter]) -> None:
        for side, done in self.place.journal.splits.items():
            done.chunks += 1
            if (about := record.sides.get(side)) is None:
                continue
            for ids in ids_of(self.folder, record, side, self.encoding.dtype):
                writers[side].write(ids)
            done.documents += about.documents
            done.text_bytes += about.text_bytes
            done.tokens += about.tokens
            done.digest = hashlib.sha256(f"{done.digest}:{about.sha256}".encode()).hexdigest()
            assert writers[side].tokens == done.tokens
        self.counts.add(record.counts())

    def _save(self, writers: dict[str, SplitWriter], finished: list[PartRecord]) -> None:
        """Make what is merged last, and only then remove the files that it came from."""
        for writer in writers.values():
            writer.sync()
            self.place.journal.files.update(writer.files)
        self.place.save()
        for record in finished:
            for side in record.sides:
                part_file(self.folder, record.number, side).unlink()
            with self._lock:
                self.journal.records.pop(record.number, None)

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
        self._count(parts=1, source_bytes=self.source.plan.part(record.number).bytes, **{**grown, **instead})

    def _count(self, note: str = "", **grown: Any) -> None:
        so_far = {**asdict(self._so_far), "note": note or self._so_far.note}
        for name, count in grown.items():
            so_far[name] += count
        self._so_far = PartsProgress(**{**so_far, "note": ""})
        self._tell(PartsProgress(**so_far))
