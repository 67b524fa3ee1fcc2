"""The text of a ladder as ids on disk: written once, mapped into memory by every process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from folio.artifacts import write_file
from folio.checksums import read_sealed_json, sealed_json
from folio.corpus import CorpusConfig, open_corpus
from folio.corpus.splitting import Side
from folio.errors import DataError
from folio.evaluation.text import IdStream, TextStream
from folio.studies.ladder.shapes import Vocabulary
from folio.tokenizer import Tokenizer, TokenizerConfig, gpt2_tokenizer, train_tokenizer

FOLDER = "ids"
SIDES: tuple[Side, ...] = ("train", "val")


@dataclass(frozen=True)
class Text:
    """Ids of both sides of the split, by one vocabulary."""

    folder: Path
    vocabulary: Vocabulary
    vocab_size: int

    def stream(self, side: Side) -> IdStream:
        return IdStream(np.load(self.folder / f"{self.vocabulary}-{side}.npy", mmap_mode="r"))

    def windows(self, block_size: int, count: int) -> np.ndarray:
        """At most ``count`` windows of the held-out side, spread evenly over it: int64 (windows, T + 1)."""
        stream = self.stream("val")
        there = (len(stream) - 1) // block_size
        if there < 1:
            raise DataError(
                f"the held-out text has {len(stream):,} tokens; one window needs {block_size + 1}", "Give more text."
            )
        starts = np.unique(np.linspace(0, there - 1, min(count, there)).astype(np.int64)) * block_size
        return np.stack([stream.read(int(start), block_size + 1).astype(np.int64) for start in starts])


def write_text(folder: Path, path: str | None, vocabularies: set[Vocabulary]) -> dict[str, Any]:
    """Write the ids of a corpus (Shakespeare's plays unless ``path`` is given) under ``folder``; returns its facts."""
    config = CorpusConfig() if path is None else CorpusConfig(path=path)
    corpus = open_corpus(config)
    facts: dict[str, Any] = {"corpus": corpus.name, "fingerprint": corpus.fingerprint, "vocab_size": {}}
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for vocabulary in sorted(vocabularies):
        tokenizer = _tokenizer(vocabulary, corpus)
        for side in SIDES:
            stream = TextStream(corpus.documents(side), tokenizer)
            ids = stream.read(0, len(stream)).astype(tokenizer.dtype)
            with open(folder / FOLDER / f"{vocabulary}-{side}.npy", "wb") as file:
                np.save(file, ids)
        facts["vocab_size"][vocabulary] = tokenizer.vocab_size
    write_file(folder / FOLDER / "text.json", sealed_json(facts))
    return facts


def read_text(folder: Path, vocabulary: Vocabulary) -> Text:
    facts = read_sealed_json(folder / FOLDER / "text.json")
    return Text(folder / FOLDER, vocabulary, facts["vocab_size"][vocabulary])


def _tokenizer(vocabulary: Vocabulary, corpus: Any) -> Tokenizer:
    if vocabulary == "gpt2":
        return gpt2_tokenizer()
    # the alphabet of both sides: a held-out character without an id could not be scored
    return train_tokenizer((document.text for document in corpus.documents()), TokenizerConfig(kind="char"))
