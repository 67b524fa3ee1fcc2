"""Shards of any size for :mod:`measure_scale`, made of any text at the speed of sha256."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from folio.corpus import CorpusConfig, open_corpus
from folio.shards.config import ShardsConfig
from folio.shards.files import SplitWriter
from folio.shards.format import UINT16
from folio.shards.journal import SplitProgress, workplace
from folio.shards.write import finish, job_of
from folio.tokenizer import gpt2_tokenizer

PIECE_CHARACTERS = 4000
VAL_TOKENS = 1_000_000

Piece = tuple[np.ndarray, int]
"""A document's ids, end-of-text first, and its bytes of text."""


def pieces_of(text: Path) -> list[Piece]:
    """Documents of about a thousand ids, cut at ends of lines: of a folder, a file, or a tar archive of .txt."""
    tokenizer, found = gpt2_tokenizer(), []
    with tempfile.TemporaryDirectory() as unpacked:
        if text.is_file() and tarfile.is_tarfile(text):
            with tarfile.open(text) as archive:
                archive.extractall(unpacked, filter="data")
            text = Path(unpacked)
        for document in open_corpus(CorpusConfig(path=str(text))).documents():
            gathered = ""
            for line in document.text.splitlines(keepends=True):
                gathered += line
                if len(gathered) >= PIECE_CHARACTERS:
                    ids = np.array([tokenizer.eot_id, *tokenizer.encode_array(gathered)], dtype=np.uint16)
                    found.append((ids, len(gathered.encode())))
                    gathered = ""
    return found


def write_set(pieces: list[Piece], to: Path, tokens: int, tokens_per_shard: int) -> None:
    """Shards of at least ``tokens`` ids of train: passes over all pieces, each in an order of its own."""
    config, source = ShardsConfig(tokens_per_shard=tokens_per_shard), {"corpus": f"resampled, {tokens:,} ids"}
    wanted = {"train": tokens, "val": VAL_TOKENS}
    with workplace(to, job_of(wanted, gpt2_tokenizer(), config, source)) as place:
        for number, (split, least) in enumerate(wanted.items()):
            writer = SplitWriter(place.shards, split, UINT16, tokens_per_shard)
            done = place.journal.splits.setdefault(split, SplitProgress())
            for passed in _passes(pieces, least, np.random.default_rng([tokens, number])):
                writer.write(np.concatenate([ids for ids, _ in passed]))
                done.tokens, done.documents = writer.tokens, done.documents + len(passed)
                done.text_bytes += sum(text_bytes for _, text_bytes in passed)
            writer.finish()
            place.journal.files.update(writer.files)
            done.complete = True
        finish(place, ())


def _passes(pieces: list[Piece], tokens: int, random: np.random.Generator) -> Iterator[list[Piece]]:
    many = 0
    while many < tokens:
        chosen = []
        for index in random.permutation(len(pieces)):
            if many >= tokens:
                break
            chosen.append(pieces[index])
            many += len(pieces[index][0])
        yield chosen


def write_many_files(to: Path, files: int, ids_each: int = 16) -> None:
    """A train split of ``files`` files of ``ids_each`` ids."""
    config = ShardsConfig(tokens_per_shard=ids_each)
    with workplace(to, job_of(("train",), gpt2_tokenizer(), config, {"corpus": "many files"})) as place:
        writer = SplitWriter(place.shards, "train", UINT16, ids_each)
        writer.write((np.arange(ids_each * files) % 50257).astype(np.uint16))
        done = place.journal.splits.setdefault("train", SplitProgress())
        done.tokens, done.documents, done.complete = writer.tokens, 1, True
        place.journal.files.update(writer.files)
        finish(place, ())
