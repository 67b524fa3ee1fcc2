"""A large source to shards on one machine: its parts worked on by several processes, merged in the order of the plan.

Every part becomes a file of ids beside the target, with a line in a journal; parts whose turn it is are appended to the
shards and their files removed. So a kill costs the parts under way, and the disk holds little more than the shards.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from folio.artifacts import Parent
from folio.corpus.cleaning import CleaningCounts
from folio.corpus.quality import QualityReport
from folio.corpus.sources import PartCounts, Sides, Source
from folio.shards.config import ShardsConfig
from folio.shards.folder import Shards, open_shards
from folio.shards.journal import Workplace, interruptible, partial_folder
from folio.shards.parts.job import Told
from folio.shards.parts.merge import DOCUMENTS, Merging, PartsProgress
from folio.shards.parts.pool import PartsPool
from folio.shards.parts.refining import Refining
from folio.shards.parts.writing import Step, Writing, plan_writing
from folio.shards.pool import cores
from folio.shards.write import finish, is_done

if TYPE_CHECKING:
    from folio.tokenizer import Tokenizer

Tell = Callable[[PartsProgress], None]


@dataclass(frozen=True, slots=True)
class PartsWritten:
    """Finished shards, and what became of the documents of the parts that were read."""

    shards: Shards
    counts: PartCounts
    report: QualityReport


def write_parts(
    source: Source | Refining,
    tokenizer: Tokenizer,
    to: Path,
    config: ShardsConfig | None = None,
    *,
    sides: Sides,
    tokens: int | None = None,
    parents: Iterable[Parent] = (),
    on_progress: Tell | None = None,
) -> PartsWritten:
    """Encode every part of ``source`` into the new folder ``to``, divided by ``sides`` into train and val.

    The bytes are those that :func:`folio.shards.write_shards` writes of the same documents in the order of the plan,
    whatever the number of workers and however often the writing was killed. With a budget of ``tokens`` all ends with
    the document by which both sides together hold so many. ``on_progress`` is called by one thread at a time, not
    always the caller's.

    Raises :class:`folio.corpus.sources.SourceChanged` if unfinished work beside ``to`` is of another plan;
    :class:`DataError` for a side without documents, or what reading raises; :class:`ArtifactError` when ``to`` holds
    something else or the disk is full; :class:`Interrupted` on Ctrl-C. The same call goes on from where it stopped.
    """
    config = config or ShardsConfig()
    refining = source if isinstance(source, Refining) else Refining(source)
    writing = plan_writing(refining, tokenizer, to, config, sides, tokens)
    return finish_writing(writing, config.workers or cores(), parents, on_progress or (lambda progress: None))


def finish_writing(
    writing: Writing, workers: int, parents: Iterable[Parent], tell: Tell, *, alone: bool = True
) -> PartsWritten:
    """Do whatever of ``writing`` is not yet done, and open the shards.

    ``alone``: no other process works on it, so that what unfinished work left behind may go at once.
    """
    to, tokenizer = writing.to, writing.encoding.tokenizer
    if is_done(to, writing.job):
        shutil.rmtree(partial_folder(to), ignore_errors=True)
        return _written(open_shards(to, tokenizer))
    with interruptible(to), writing.workplace() as place:
        for step in writing.before_encoding():
            if step.once is not None:
                step.once()
            else:
                _do_with_parts(writing, step, place, workers, tell)
            place.holds_work = True
        work = Merging(writing, place, tell, alone)
        try:
            work.run(workers)
        finally:
            work.close()
        finish(place, parents)
    return _written(open_shards(to, tokenizer, verify=False))


def _do_with_parts(writing: Writing, step: Step, place: Workplace, workers: int, tell: Tell) -> None:
    plan, lock = writing.refining.source.plan, Lock()
    missing = step.undone(range(len(plan)))
    done = len(plan) - len(missing)
    read = plan.bytes - sum(plan.part(number).bytes for number in missing)
    place.holds_work |= done > 0

    def report(note: str = "") -> None:
        tell(PartsProgress(step.name, done, len(plan), read, plan.bytes, 0, 0, 0, note))

    def told(word: Told) -> None:
        with lock:
            report(word.note)

    assert step.job is not None
    with PartsPool[Any](step.job, workers, told, lambda nothing: None) as pool:
        for number, _ in zip(missing, pool.run(map(plan.part, missing)), strict=True):
            place.holds_work = True
            with lock:
                done, read = done + 1, read + plan.part(number).bytes
                report()


def _written(shards: Shards) -> PartsWritten:
    about = json.loads((shards.path / DOCUMENTS).read_text(encoding="utf-8"))
    counts = about["counts"]
    found = PartCounts(CleaningCounts(**counts.pop("cleaning")), **counts)
    report = QualityReport.from_record(about["quality"]) if "quality" in about else QualityReport()
    return PartsWritten(shards, found, report)
