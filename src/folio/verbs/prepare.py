"""From a recipe to the tokenizer and shards it trains on, made once and kept in the cache by content."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from folio.artifacts import MANIFEST, read_manifest, write_file
from folio.config import Table
from folio.errors import ArtifactError, ConfigError
from folio.locks import locked
from folio.verbs.action import Terminal
from folio.verbs.recipe import Recipe

if TYPE_CHECKING:
    from folio.corpus import Corpus
    from folio.corpus.sources import Plan
    from folio.shards import Shards
    from folio.tokenizer import Tokenizer
    from folio.verbs.progress import Progress

T = TypeVar("T")
SHOWN_AFTER_S = 1.0
"""How long shards are read to verify them before a bar appears."""


@dataclass(frozen=True)
class Prepared:
    """What a run reads, and where it lies. ``corpus`` is None where shards made before, or a source, are used."""

    tokenizer: Tokenizer
    shards: Shards
    tokenizer_path: Path | None
    corpus: Corpus | None


def prepare(recipe: Recipe, terminal: Terminal, *, verify: bool = True, made_before: str | None = None) -> Prepared:
    """Fetch the corpus, train or load the tokenizer (on training text alone), write or reuse the shards.

    Processes that need the same thing at the same time make it once: the others wait. ``verify`` False takes shards
    by their headers, for a process beside one that has compared every byte. ``made_before`` is the id of the shards
    that a run began with: if they are in the cache, a source they were made from need not be there any more.
    """
    if recipe.shards.path is not None:
        if recipe.tokenizer.path is None and recipe.tokenizer.kind != "gpt2":
            raise ConfigError(
                "shards.path needs the tokenizer that made the shards",
                "Give --tokenizer.path FOLDER, or --tokenizer.kind gpt2.",
            )
        tokenizer, where = _tokenizer(recipe, None, terminal)
        return Prepared(tokenizer, _opened(recipe.shards.path, tokenizer, terminal, verify), where, None)
    if recipe.source.path is not None:
        if recipe.tokenizer.path is None and recipe.tokenizer.kind != "gpt2":
            raise ConfigError(
                f"tokenizer.kind {recipe.tokenizer.kind} is trained on a corpus, and this text is a source",
                "Give --tokenizer.kind gpt2, or train one on a part of the text and give --tokenizer.path FOLDER.",
            )
        tokenizer, where = _tokenizer(recipe, None, terminal)
        return Prepared(tokenizer, _shards_of_source(recipe, tokenizer, terminal, verify, made_before), where, None)
    corpus = _corpus(recipe, terminal)
    terminal.print(f"corpus     {corpus.name}")
    tokenizer, where = _tokenizer(recipe, corpus, terminal)
    return Prepared(tokenizer, _shards(recipe, corpus, tokenizer, terminal, verify), where, corpus)


def _corpus(recipe: Recipe, terminal: Terminal) -> Corpus:
    from folio.corpus import open_corpus

    if recipe.corpus.path is not None:
        return open_corpus(recipe.corpus)
    return _fetched(str(recipe.corpus.name), lambda: open_corpus(recipe.corpus), terminal)


def _tokenizer(recipe: Recipe, corpus: Corpus | None, terminal: Terminal) -> tuple[Tokenizer, Path | None]:
    from folio.tokenizer import gpt2_tokenizer, load_tokenizer, train_tokenizer

    config = recipe.tokenizer
    if config.path is not None:
        return load_tokenizer(config.path), config.path
    if config.kind == "gpt2":
        return _fetched("gpt2", gpt2_tokenizer, terminal), None
    assert corpus is not None
    folder = cached("tokenizer", corpus.fingerprint, _plain(config))

    def make() -> Tokenizer:
        train_tokenizer((document.text for document in corpus.documents("train")), config).save(folder)
        return load_tokenizer(folder)

    tokenizer = made_once("tokenizer", folder, lambda: load_tokenizer(folder), make, terminal)
    terminal.print(f"tokenizer  {config.kind}, {tokenizer.vocab_size:,} ids: {folder}")
    return tokenizer, folder


def _shards(recipe: Recipe, corpus: Corpus, tokenizer: Tokenizer, terminal: Terminal, verify: bool) -> Shards:
    from folio.shards import write_shards

    folder = cached("shards", corpus.fingerprint, tokenizer.fingerprint, recipe.shards.tokens_per_shard)

    def make() -> Shards:
        with terminal.progress("shards", None, "token") as bar:
            return write_shards(
                {"train": lambda: corpus.documents("train"), "val": lambda: corpus.documents("val")},
                tokenizer,
                folder,
                recipe.shards,
                source={"corpus": corpus.name, "fingerprint": corpus.fingerprint},
                on_progress=lambda progress: bar.update(progress.tokens),
            )

    shards = made_once("shards", folder, lambda: _opened(folder, tokenizer, terminal, verify), make, terminal)
    return _told(shards, folder, terminal)


def _shards_of_source(
    recipe: Recipe, tokenizer: Tokenizer, terminal: Terminal, verify: bool, made_before: str | None
) -> Shards:
    """Their name in the cache is made of the text and all that is asked of it, wherever the text lies."""
    from folio.shards.machines.config import EngineConfig
    from folio.verbs.sources import plan_source, write_source

    source, config, home = recipe.source, recipe.shards, cached("shards")
    assert source.path is not None
    if made_before is not None and (found := _folder_of(home.parent, made_before)) is not None:
        return _told(_opened(found, tokenizer, terminal, verify), found, terminal)
    seen = cached("sources", str(Path(source.path).absolute()), _plain(source)).with_suffix(".json")
    writing = plan_source(
        source.path, source, recipe.quality, source.tokens, tokenizer, home, config, terminal, _plan_in(seen)
    )
    seen.parent.mkdir(parents=True, exist_ok=True)
    write_file(seen, writing.refining.source.plan.model_dump_json())
    about = {key: value for key, value in writing.job["source"].items() if key != "corpus"}
    folder = cached("shards", {**writing.job, "source": about})

    def make() -> Shards:
        written = write_source(replace(writing, to=folder), EngineConfig(), config.workers, terminal)
        assert written is not None
        return written.shards

    shards = made_once("shards", folder, lambda: _opened(folder, tokenizer, terminal, verify), make, terminal)
    return _told(shards, folder, terminal)


def _folder_of(home: Path, id: str) -> Path | None:
    """The shards in the cache that have this manifest."""
    for manifest in home.glob(f"*/{MANIFEST}"):
        with suppress(ArtifactError):
            if read_manifest(manifest.parent, "shards").id == id:
                return manifest.parent
    return None


def _plan_in(file: Path) -> Plan | None:
    """The plan of a source that was looked at before."""
    from folio.corpus.sources import Plan

    with suppress(OSError, ValidationError):
        return Plan.model_validate_json(file.read_bytes())
    return None


def _told(shards: Shards, folder: Path, terminal: Terminal) -> Shards:
    counts = ", ".join(f"{shards.tokens(name):,} {name}" for name in shards.splits)
    terminal.print(f"shards     {counts} tokens: {folder}")
    return shards


def _opened(folder: Path, tokenizer: Tokenizer, terminal: Terminal, verify: bool) -> Shards:
    from folio.shards import open_shards

    if not verify:
        return open_shards(folder, tokenizer, verify=False)
    size = sum(file.stat().st_size for file in folder.glob("*.bin"))
    with _late_bar(terminal, "verify shards", size, "byte") as show:
        return open_shards(folder, tokenizer, on_progress=show)


@contextmanager
def _late_bar(terminal: Terminal, description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A progress bar for what is mostly over at once: it appears after a second."""
    begun = time.monotonic()
    bar: Progress | None = None
    with ExitStack() as stack:

        def show(done: int) -> None:
            nonlocal bar
            if bar is None and time.monotonic() - begun >= SHOWN_AFTER_S:
                bar = stack.enter_context(terminal.progress(description, total, unit))
            if bar is not None:
                bar.update(done)

        yield show


def _fetched(name: str, get: Callable[[], T], terminal: Terminal) -> T:
    """What ``get`` fetches into the cache under ``name``, fetched by one process at a time."""
    from folio.corpus.mirrors import cache_folder

    folder = cache_folder() / name
    if folder.is_dir():
        return get()
    with _alone(name, folder, terminal):
        return get()


def made_once(what: str, folder: Path, read: Callable[[], T], make: Callable[[], T], terminal: Terminal) -> T:
    """What ``read`` finds in the cache's ``folder``; where it is absent or damaged, one process makes it anew."""

    def sound() -> T:
        read_manifest(folder, what)  # one that has lost its manifest would be taken for files that others made
        return read()

    if folder.exists():
        try:
            return sound()
        except ArtifactError:
            pass  # asked again below: another process may be making it anew already
    with _alone(what, folder, terminal):
        if folder.exists():
            try:
                return sound()
            except ArtifactError as error:
                terminal.print(f"{what:<10} made anew, for in the cache {error.problem}", style="yellow")
                shutil.rmtree(folder, ignore_errors=True)
        return make()


@contextmanager
def _alone(what: str, folder: Path, terminal: Terminal) -> Iterator[None]:
    def say() -> None:
        terminal.print(f"{what:<10} another process is making it; waiting")

    with locked(folder.with_name(f"{folder.name}.lock"), on_wait=say):
        yield


def _plain(table: Table) -> dict[str, Any]:
    return table.model_dump(mode="json")


def cached(kind: str, *content: Any) -> Path:
    """The folder in the cache of what is of this ``kind`` and made from this ``content`` (JSON values)."""
    from folio.corpus.mirrors import cache_folder

    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / kind / key
