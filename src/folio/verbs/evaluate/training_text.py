"""The training text that ``folio evaluate contamination`` looks through: shards, a named corpus, or files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from folio.artifacts import Parent, read_manifest
from folio.config import build
from folio.corpus import CorpusConfig, open_corpus
from folio.corpus.config import is_named
from folio.errors import ArtifactError, ConfigError
from folio.evaluation.contamination.passages import DocumentText, ShardText
from folio.evaluation.contamination.search import Source
from folio.shards import open_shards
from folio.shards.manifest import KIND as SHARDS
from folio.tokenizer import Tokenizer, gpt2_tokenizer, load_tokenizer


@dataclass(frozen=True)
class TrainingText:
    """``source`` is looked through; it has ``total`` of ``unit``, if that is known beforehand."""

    source: Source
    facts: dict[str, Any]
    unit: str
    total: int | None = None
    parents: tuple[Parent, ...] = field(default=())


def of_shards(folder: Path, split: str, tokenizer: Path | None) -> TrainingText:
    """One split of shards, every byte compared with their manifest.

    :class:`ArtifactError` for shards that another tokenizer made, or whose tokenizer is not known.
    """
    made_by = tokenizer_at(tokenizer) if tokenizer is not None else _recorded_tokenizer(folder)
    shards = open_shards(folder, made_by)
    stream = shards.split(split)
    facts = {"shards": folder.resolve().name, "split": split, "id": shards.manifest.id, "tokens": len(stream)}
    parents = (Parent(kind=SHARDS, id=shards.manifest.id),)
    return TrainingText(ShardText(stream.paths, made_by), facts, "token", len(stream), parents)


def of_corpus(name: str | None, path: str | None, split: str, words_after: int) -> TrainingText:
    """One split of a named corpus, or all of the text at ``path``; ``words_after`` is the index's overlap."""
    if name is not None and not is_named(name):
        raise ConfigError(f"'{name}' is no named corpus", f"Give files as text: --text {name}")
    corpus = open_corpus(build(CorpusConfig, {"name": name} if path is None else {"path": path}))
    side: Any = split if path is None else None
    facts = {"text": corpus.name, "split": split if path is None else None, "fingerprint": corpus.fingerprint}
    return TrainingText(DocumentText(lambda: corpus.documents(side), words_after), facts, "character")


def tokenizer_at(folder: Path) -> Tokenizer:
    """The tokenizer in a folder, a model or a run."""
    if (folder / "tokenizer.json").is_file() or not folder.exists():
        return load_tokenizer(folder)
    from folio.verbs.library import load_tokenizer as of_model

    return of_model(folder)


def _recorded_tokenizer(folder: Path) -> Tokenizer:
    """GPT-2's tokenizer if the shards say that it made them: the one that is at hand without a folder."""
    remedy = "Say where the tokenizer is that made them: --tokenizer FOLDER (a model or run will do)."
    if folder.is_dir() and not (folder / "manifest.json").exists() and any(folder.glob("*.bin")):
        raise ArtifactError(f"shards '{folder}' do not say which tokenizer made them", remedy)
    made_by = read_manifest(folder, SHARDS).config["tokenizer"]
    if made_by["kind"] != "gpt2":
        raise ArtifactError(
            f"shards '{folder}' were made by a tokenizer of kind {made_by['kind']} ({made_by['vocab_size']:,} ids), "
            "which is not in them",
            remedy,
        )
    return gpt2_tokenizer()
