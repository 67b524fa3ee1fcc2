"""A corpus: cleaned documents, read as often as wanted, and the side of the split each is on."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from folio.checksums import sha256_of
from folio.corpus.cleaning import CleaningCounts, clean
from folio.corpus.config import CorpusConfig
from folio.corpus.document import Document
from folio.corpus.files import TextFile, find_files
from folio.corpus.mirrors import fetch, row_of
from folio.corpus.plays import plain_play
from folio.corpus.reading import read_documents
from folio.corpus.splitting import HashSplit, ListSplit, Side, Split, TailSplit
from folio.errors import ConfigError, DataError, nearest

RULES = 1
"""Part of every fingerprint: raised when cleaning, splitting or the plain text of the plays changes."""


class Corpus:
    """Documents that can be walked any number of times; nothing is held but what finding duplicates needs.

    ``name`` is the row's or the path's last part.
    """

    def __init__(
        self,
        name: str,
        config: CorpusConfig,
        read: Callable[[], Iterator[Document]],
        sources: Callable[[], dict[str, str]],
        held_out: tuple[str, ...] = (),
    ) -> None:
        """``read`` walks the uncleaned documents; ``sources`` gives the sha256 of each source by name; ``held_out`` is
        what a named corpus holds out by itself."""
        self.name = name
        self.config = config
        self._read = read
        self._sources = sources
        self._held_out = held_out
        self._counts: CleaningCounts | None = None

    def documents(self, split: Side | None = None) -> Iterator[Document]:
        """The cleaned documents of one side of the split, or all of them whole; streamed.

        A walk that reaches the end raises :class:`DataError` if the corpus turns out to be empty, if either side is,
        if a listed id was never met, or if a split made for one document met a second.
        """
        if split is None:
            yield from self._cleaned()
            return
        met: dict[Side, int] = {"train": 0, "val": 0}
        ids = set()
        for number, document in enumerate(self._cleaned()):
            if number and isinstance(self.split, TailSplit):
                raise DataError(
                    f"split 'tail' cuts one text, but '{self.name}' has more documents", "Use split 'hash' or 'list'."
                )
            if isinstance(self.split, ListSplit):
                ids.add(document.id)
            for side, part in self.split.parts(document):
                met[side] += 1
                if side == split:
                    yield part
        self._check(met, ids)

    def counts(self) -> CleaningCounts:
        """What cleaning kept and dropped; walks the corpus once if no walk has reached its end yet."""
        if self._counts is None:
            for _ in self._cleaned():
                pass
        assert self._counts is not None
        return replace(self._counts)

    @cached_property
    def split(self) -> Split:
        """The rule in force; reads at most two documents to find out whether there is only one."""
        config = self.config
        ids = config.validation_documents or self._held_out
        if config.split == "list" and not ids:
            raise ConfigError("split 'list' has no list", "Name the documents to hold out in validation_documents.")
        if config.split == "list" or config.validation_documents or (config.split == "auto" and ids):
            return ListSplit(frozenset(ids))
        if config.split == "tail" or (config.split == "auto" and len(list(islice(self._cleaned(), 2))) == 1):
            return TailSplit(config.validation_fraction)
        return HashSplit(config.validation_fraction)

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of what decides the documents and their sides: the sources' contents, cleaning, the split rule.

        Reads every source once. The same on every machine: names count relative to the path that was given.
        """
        config = self.config
        rule = {"fraction": self.split.fraction} if not isinstance(self.split, ListSplit) else {}
        content = {
            "rules": RULES,
            "sources": self._sources(),
            "text_field": config.text_field,
            "cleaning": {"nfc": config.nfc, "deduplicate": config.deduplicate},
            "split": {"kind": type(self.split).__name__, **rule},
            "held_out": sorted(self.split.ids) if isinstance(self.split, ListSplit) else [],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _cleaned(self) -> Iterator[Document]:
        counts = CleaningCounts()
        yield from clean(self._read(), counts, nfc=self.config.nfc, deduplicate=self.config.deduplicate)
        if not counts.kept:
            raise DataError(
                f"'{self.config.path or self.name}' holds no text ({counts.empty:,} documents, all empty)",
                "Give a path with at least one document that is more than white space.",
            )
        self._counts = counts

    def _check(self, met: dict[Side, int], ids: set[str]) -> None:
        if isinstance(self.split, ListSplit) and (missing := sorted(self.split.ids - ids)):
            guess = nearest(missing[0], ids)
            hint = f"Did you mean '{guess}'?" if guess else "Ids are file names, or a record's own id."
            raise DataError(f"'{self.name}' has no document '{missing[0]}' to hold out", hint)
        for side in ("train", "val"):
            if not met[side]:
                raise DataError(
                    f"the split of '{self.name}' leaves no document for {side} ({sum(met.values()):,} in all)",
                    "Change validation_fraction, or list the documents to hold out in validation_documents.",
                )


def open_corpus(config: CorpusConfig) -> Corpus:
    """The corpus of ``config``, fetched first if it is a named one that is not in the cache.

    :class:`ConfigError` for a name that is unknown or no text, :class:`DataError` if the path leads to no text, and
    what :func:`folio.corpus.mirrors.obtain` raises.
    """
    if config.path is not None:
        files = find_files(config.path)
        return Corpus(
            Path(config.path).name or config.path,
            config,
            read=partial(_read_files, files, config.text_field),
            sources=partial(_hash_files, files),
        )
    assert config.name is not None
    row = row_of(config.name)
    if row.kind in ("vocabulary", "benchmark"):
        raise ConfigError(f"'{config.name}' is a {row.kind}, not a text", "Corpora are: shakespeare, tinyshakespeare.")
    folder = fetch(config.name, from_file=config.from_file)
    paths = [folder / file.name for file in row.files]
    sources = {file.name: file.sha256 for file in row.files}
    read: Any = partial(_read_plays if row.kind == "plays" else _read_texts, paths)
    return Corpus(config.name, config, read=read, sources=partial(dict, sources), held_out=row.validation)


def _read_files(files: list[TextFile], text_field: str) -> Iterator[Document]:
    for file in files:
        yield from read_documents(file, text_field)


def _hash_files(files: list[TextFile]) -> dict[str, str]:
    try:
        return {file.name: sha256_of(file.path) for file in files}
    except OSError as error:
        raise DataError(f"'{error.filename}' cannot be read: {error.strerror}", "Check the file.") from None


def _read_texts(paths: list[Path]) -> Iterator[Document]:
    for path in paths:
        yield Document(path.stem, path.read_bytes().decode("utf-8"), path.name)


def _read_plays(paths: list[Path]) -> Iterator[Document]:
    """The plays of the wheel, by name."""
    for path in paths:
        with zipfile.ZipFile(path) as wheel:
            plays = [PurePosixPath(name) for name in wheel.namelist() if name.endswith(".md") and "/plays/" in name]
            for play in sorted(plays, key=lambda name: name.stem):
                text = plain_play(wheel.read(str(play)).decode("utf-8"))
                yield Document(play.stem, text, f"{path.name}/{play}")
