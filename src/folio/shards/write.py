"""Documents to shards: in parallel, resumable, the same bytes however it went."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folio.artifacts import MANIFEST, Parent, read_manifest, seal_manifest
from folio.errors import ArtifactError, ConfigError, DataError
from folio.shards.chunks import CHUNK_BYTES, PIECE_CHARACTERS, Chunk, chunks_of
from folio.shards.config import ShardsConfig
from folio.shards.files import SplitWriter
from folio.shards.folder import Shards, open_shards
from folio.shards.format import dtype_for
from folio.shards.journal import SplitProgress, Workplace, interruptible, partial_folder, workplace
from folio.shards.manifest import KIND, describe, shards_manifest
from folio.shards.pool import EncoderPool, cores
from folio.shards.worker import Encoding

if TYPE_CHECKING:
    from folio.corpus import Document
    from folio.tokenizer import Tokenizer

SAVE_EVERY_S = 1.0
"""At most this much work is lost to a kill; each save waits for the disk."""


@dataclass(frozen=True, slots=True)
class WriteProgress:
    """How far a writing has come in ``split``. ``note`` is a sentence for the user, now and then."""

    split: str
    documents: int
    text_bytes: int
    tokens: int
    note: str = ""


def write_shards(
    splits: Mapping[str, Callable[[], Iterable[Document]]],
    tokenizer: Tokenizer,
    to: Path,
    config: ShardsConfig | None = None,
    *,
    source: dict[str, Any],
    parents: Iterable[Parent] = (),
    on_progress: Callable[[WriteProgress], None] | None = None,
) -> Shards:
    """Encode each split's documents, in order, into the new folder ``to``, and open it.

    The bytes depend on documents, tokenizer and ``tokens_per_shard`` alone: not on the number of processes, nor on how
    often the writing was killed and begun again. Memory is bounded by a few chunks of a mebibyte a process and the
    longest document. ``source`` says where the documents come from; it should hold the ``fingerprint`` of the corpus,
    for then a call that finds its work already done returns at once.

    Raises :class:`DataError` for a split without documents, and for documents that cannot be read or have changed while
    the work was interrupted; :class:`ArtifactError` when ``to`` holds something else or the disk is full;
    :class:`Interrupted` on Ctrl-C. After the last two the same call goes on from where it stopped.
    """
    config = config or ShardsConfig()
    job = job_of(splits, tokenizer, config, source)
    tell = on_progress or (lambda progress: None)
    if is_done(to, job):
        shutil.rmtree(partial_folder(to), ignore_errors=True)
        return open_shards(to, tokenizer)
    encoding = Encoding(tokenizer, job["tokenizer"]["eot_id"], dtype_for(tokenizer.vocab_size))
    with interruptible(to), workplace(to, job) as place, EncoderPool(encoding, config.workers or cores()) as pool:
        if place.note:
            tell(WriteProgress(next(iter(splits)), 0, 0, 0, place.note))
        for name, documents in splits.items():
            _write_split(name, documents, place, pool, tell)
        finish(place, parents)
    return open_shards(to, tokenizer, verify=False)


def job_of(
    splits: Mapping[str, Any], tokenizer: Tokenizer, config: ShardsConfig, source: dict[str, Any]
) -> dict[str, Any]:
    """All that the bytes depend on."""
    if tokenizer.eot_id is None:
        raise ConfigError(
            f"this {tokenizer.kind} tokenizer has no end-of-text id, which opens every document in shards",
            "Use a tokenizer that has <|endoftext|>.",
        )
    job = {
        "tokenizer": describe(tokenizer),
        "dtype": dtype_for(tokenizer.vocab_size).name,
        "tokens_per_shard": config.tokens_per_shard,
        "chunks": [CHUNK_BYTES, PIECE_CHARACTERS],
        "source": source,
        "splits": list(splits),
    }
    return dict(json.loads(json.dumps(job)))  # as it will be read back


def is_done(to: Path, job: dict[str, Any]) -> bool:
    """Whether ``to`` already holds exactly what is asked for, by the fingerprint of its source."""
    if "fingerprint" not in job["source"] or not (to / MANIFEST).exists():
        return False
    try:
        made = read_manifest(to, KIND).config
    except ArtifactError:
        return False
    same = ("tokenizer", "dtype", "tokens_per_shard", "source")
    return all(made.get(key) == job[key] for key in same) and list(made["splits"]) == job["splits"]


def _write_split(
    name: str,
    documents: Callable[[], Iterable[Document]],
    place: Workplace,
    pool: EncoderPool,
    tell: Callable[[WriteProgress], None],
) -> None:
    done = place.journal.splits.setdefault(name, SplitProgress())
    if done.complete:
        return

    def report(note: str = "") -> None:
        tell(WriteProgress(name, done.documents, done.text_bytes, done.tokens, note))

    job = place.journal.job
    writer = SplitWriter(place.shards, name, pool.encoding.dtype, job["tokens_per_shard"], done.tokens)
    try:
        saved = time.monotonic()
        remaining = _after(done, chunks_of(documents(), pool.encoding.tokenizer, report))
        for counts, ids in pool.encode(remaining):
            writer.write(ids)
            done.chunks += 1
            done.documents += counts.documents
            done.text_bytes += counts.text_bytes
            done.tokens += len(ids)
            done.digest = counts.digest
            if time.monotonic() - saved >= SAVE_EVERY_S:
                _save(place, writer)
                saved = time.monotonic()
            report()
        if done.chunks == 0:
            place.discard()
            raise DataError(
                f"the split '{name}' has no documents", "Check the corpus, and how it is divided into train and val."
            )
        writer.finish()
        done.complete = True
        _save(place, writer)
    finally:
        writer.abandon()


def _after(done: SplitProgress, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The chunks that are not yet written, once it is sure that those before them are the ones that were."""
    digest = ""
    for chunk in islice(chunks, done.chunks):
        digest = chunk.counts.digest
    if digest != done.digest:
        raise DataError(
            "the documents have changed since this writing was interrupted",
            "Remove the .partial folder beside the target to begin anew.",
        )
    return chunks


def _save(place: Workplace, writer: SplitWriter) -> None:
    writer.sync()
    place.journal.files.update(writer.files)
    place.save()


def finish(place: Workplace, parents: Iterable[Parent]) -> None:
    """Describe what the journal says was written, and give the finished shards their name."""
    journal = place.journal
    recorded = ("tokenizer", "dtype", "tokens_per_shard", "source")
    splits = {
        name: {
            "tokens": done.tokens,
            "documents": done.documents,
            "text_bytes": done.text_bytes,
            "files": sorted(file for file in journal.files if file.rpartition("_")[0] == name),
        }
        for name, done in journal.splits.items()
    }
    config = {**{key: journal.job[key] for key in recorded}, "splits": splits}
    seal_manifest(place.shards, shards_manifest(config, dict(sorted(journal.files.items())), parents))
    place.publish()
