"""From a recipe to the tokenizer and shards it trains on, made once and kept in the cache by content."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folio.artifacts import verify
from folio.config import Table
from folio.errors import ArtifactError, ConfigError
from folio.verbs.action import Terminal
from folio.verbs.recipe import Recipe

if TYPE_CHECKING:
    from folio.corpus import Corpus
    from folio.shards import Shards
    from folio.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prepared:
    """What a run reads, and where it lies. ``corpus`` is None where shards made before are used."""

    tokenizer: Tokenizer
    shards: Shards
    tokenizer_path: Path | None
    corpus: Corpus | None


def prepare(recipe: Recipe, terminal: Terminal) -> Prepared:
    """Fetch the corpus, train or load the tokenizer (on training text alone), write or reuse the shards."""
    from folio.shards import open_shards

    if recipe.shards.path is not None:
        if recipe.tokenizer.path is None and recipe.tokenizer.kind != "gpt2":
            raise ConfigError(
                "shards.path needs the tokenizer that made the shards",
                "Give --tokenizer.path FOLDER, or --tokenizer.kind gpt2.",
            )
        tokenizer, where = _tokenizer(recipe, None, terminal)
        return Prepared(tokenizer, open_shards(recipe.shards.path, tokenizer), where, None)
    from folio.corpus import open_corpus

    corpus = open_corpus(recipe.corpus)
    terminal.print(f"corpus     {corpus.name}")
    tokenizer, where = _tokenizer(recipe, corpus, terminal)
    return Prepared(tokenizer, _shards(recipe, corpus, tokenizer, terminal), where, corpus)


def _tokenizer(recipe: Recipe, corpus: Corpus | None, terminal: Terminal) -> tuple[Tokenizer, Path | None]:
    from folio.tokenizer import gpt2_tokenizer, load_tokenizer, train_tokenizer

    config = recipe.tokenizer
    if config.path is not None:
        return load_tokenizer(config.path), config.path
    if config.kind == "gpt2":
        return gpt2_tokenizer(), None
    assert corpus is not None
    folder = _cached("tokenizer", corpus.fingerprint, _plain(config))
    if not _sound(folder, "tokenizer"):
        train_tokenizer((document.text for document in corpus.documents("train")), config).save(folder)
    tokenizer = load_tokenizer(folder)
    terminal.print(f"tokenizer  {config.kind}, {tokenizer.vocab_size:,} ids: {folder}")
    return tokenizer, folder


def _shards(recipe: Recipe, corpus: Corpus, tokenizer: Tokenizer, terminal: Terminal) -> Shards:
    from folio.shards import open_shards, write_shards

    size = recipe.shards.tokens_per_shard
    folder = _cached("shards", corpus.fingerprint, tokenizer.fingerprint, size)
    try:
        shards = open_shards(folder, tokenizer)
    except ArtifactError:
        shutil.rmtree(folder, ignore_errors=True)
        with terminal.progress("shards", None, "token") as bar:
            shards = write_shards(
                {"train": lambda: corpus.documents("train"), "val": lambda: corpus.documents("val")},
                tokenizer,
                folder,
                recipe.shards,
                source={"corpus": corpus.name, "fingerprint": corpus.fingerprint},
                on_progress=lambda progress: bar.update(progress.tokens),
            )
    counts = ", ".join(f"{shards.tokens(name):,} {name}" for name in shards.splits)
    terminal.print(f"shards     {counts} tokens: {folder}")
    return shards


def _plain(table: Table) -> dict[str, Any]:
    return table.model_dump(mode="json")


def _cached(kind: str, *content: Any) -> Path:
    from folio.corpus.mirrors import cache_folder

    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / kind / key


def _sound(folder: Path, kind: str) -> bool:
    """Whether ``folder`` is there and whole; a damaged one is cleared away."""
    try:
        verify(folder, kind)
    except ArtifactError:
        shutil.rmtree(folder, ignore_errors=True)
        return False
    return True
