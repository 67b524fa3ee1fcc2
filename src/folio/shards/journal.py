"""How far a writing has come: what makes it possible to kill one at any moment and go on.

While shards are being written, ``NAME.partial`` stands beside the target: the files so far in ``shards/``, and
``journal.json``, replaced atomically after the files it speaks of have been synced. Whatever a file holds beyond what
the journal says is cut off and made again. When all is done ``shards/`` is renamed to the target.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from folio.artifacts import refuse_occupied, sync, write_file
from folio.checksums import FileRecord
from folio.errors import ArtifactError, Interrupted
from folio.locks import locked
from folio.shards.format import HEADER_BYTES
from folio.shards.worker import NO_ROOM


class SplitProgress(BaseModel):
    """How much of one split is on disk, and the digest of the documents it came from."""

    model_config = ConfigDict(extra="forbid")
    chunks: int = 0
    documents: int = 0
    text_bytes: int = 0
    tokens: int = 0
    digest: str = ""
    complete: bool = False


class Journal(BaseModel):
    """What is being written (``job``: tokenizer, source, sizes) and how far it has come."""

    model_config = ConfigDict(extra="forbid")
    job: dict[str, Any]
    splits: dict[str, SplitProgress] = {}
    files: dict[str, FileRecord] = {}


class Workplace:
    """The ``NAME.partial`` folder of one writing."""

    def __init__(self, target: Path, folder: Path, journal: Journal, note: str) -> None:
        self.target = target
        self.shards = folder / "shards"
        self.journal = journal
        self.note = note
        """What a user should know about how the writing begins: goes on, begins anew; empty for a fresh one."""
        self.holds_work = False
        """Whether the journal on disk speaks of any ids."""
        self._folder = folder

    def save(self) -> None:
        """Make the journal last; call after the files it speaks of have been synced."""
        write_file(journal_file(self.target), self.journal.model_dump_json())
        self.holds_work |= any(done.tokens for done in self.journal.splits.values())

    def publish(self) -> None:
        """Give the finished shards their name, in one step, and clear up."""
        sync(self.shards)
        if self.target.is_dir():
            self.target.rmdir()  # empty: anything else was refused at the start
        os.rename(self.shards, self.target)
        sync(self.target.parent)
        self.discard()

    def discard(self) -> None:
        """Remove the partial folder."""
        shutil.rmtree(self._folder, ignore_errors=True)


def read_journal(target: Path) -> Journal | None:
    """What the unfinished work for ``target`` says of itself; None if there is none, or it is damaged."""
    try:
        return Journal.model_validate_json(journal_file(target).read_bytes())
    except (ValidationError, OSError):
        return None


def partial_folder(target: Path) -> Path:
    """Where the unfinished work for ``target`` lies."""
    return target.with_name(target.name + ".partial")


def journal_file(target: Path) -> Path:
    """What says how far the unfinished work for ``target`` has come."""
    return partial_folder(target) / "journal.json"


@contextmanager
def interruptible(to: Path, doing: str = "writing", again: str = "goes on from where it stopped") -> Iterator[None]:
    """Around the work for ``to``: Ctrl-C as :class:`Interrupted`, a full disk as :class:`ArtifactError`.

    Each says what becomes of the work.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"{doing} '{to}' was stopped; the same command {again}") from None
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise ArtifactError(
            f"no room on the disk for '{to}': {error.strerror}",
            f"Free some space and run the same command again: it {again}.",
        ) from None


@contextmanager
def workplace(target: Path, job: dict[str, Any]) -> Iterator[Workplace]:
    """The partial folder for writing ``job`` to ``target``, locked against a second writer.

    One left by the same job is gone on with; one left by another job, or damaged, is begun anew. A folder
    of that name which is none of ours is refused. A writing that fails before anything was saved leaves nothing.
    """
    refuse_occupied(target)
    folder = partial_folder(target)
    known = journal_file(target)
    if folder.exists() and not known.exists() and set(os.listdir(folder)) - {"lock", "shards"}:
        raise ArtifactError(f"'{folder}' is needed for unfinished work but holds something else", "Remove it.")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", wait=False) as held:
        if not held:
            raise ArtifactError(
                f"another process is writing shards to '{target}'", "Wait for it, or choose another folder."
            )
        journal, note = _resumed(folder, job) if known.exists() else (None, "")
        if journal is None:
            shutil.rmtree(folder / "shards", ignore_errors=True)
            known.unlink(missing_ok=True)
            journal = Journal(job=job)
        (folder / "shards").mkdir(exist_ok=True)
        place = Workplace(target, folder, journal, note)
        place.save()
        try:
            yield place
        except BaseException:
            if not place.holds_work:
                place.discard()
            raise


def _resumed(folder: Path, job: dict[str, Any]) -> tuple[Journal | None, str]:
    try:
        journal = Journal.model_validate_json((folder / "journal.json").read_bytes())
    except (ValidationError, OSError):
        return None, f"'{folder}' was damaged: beginning anew"
    if journal.job != job:
        changed = ", ".join(sorted(key for key in job if journal.job.get(key) != job[key])) or "settings"
        return None, f"'{folder}' was left by a writing with another {changed}: beginning anew"
    for split, done in journal.splits.items():
        per_shard = job["tokens_per_shard"]
        for index in range(-(-done.tokens // per_shard)):
            tokens = min(per_shard, done.tokens - index * per_shard)
            file = folder / "shards" / f"{split}_{index:06d}.bin"
            needed = HEADER_BYTES + tokens * np.dtype(job["dtype"]).itemsize
            if not file.is_file() or file.stat().st_size < needed:
                return None, f"'{file}' is missing or cut short: beginning anew"
    tokens = sum(done.tokens for done in journal.splits.values())
    return journal, f"going on after {tokens:,} tokens that were already written" if tokens else ""
