"""From the words of the command line to something that can be explored, with the tokenizer that counts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folio.errors import ArtifactError
from folio.verbs.action import Terminal
from folio.verbs.corpus.options import ExploreOptions, Kind, kind_of

if TYPE_CHECKING:
    from folio.corpus.exploring import Material
    from folio.tokenizer import Tokenizer

GPT2 = "gpt2"


@dataclass(frozen=True)
class Opened:
    """A text to explore, and how its tokens are counted, if they are."""

    material: Material
    tokenizer: Tokenizer | None
    tokens_of: Callable[[str], int] | None


def open_all(options: ExploreOptions, terminal: Terminal) -> tuple[Opened, ...]:
    """The text, and the one it is set against, if any.

    A text without a tokenizer of its own is counted by that of the other. Raises what opening raises:
    :class:`ArtifactError` for shards whose tokenizer is missing or another, :class:`DataError` for what is not there.
    """
    whats = [options.what, *([options.against] if options.against is not None else [])]
    given = [options.tokenizer, options.against_tokenizer][: len(whats)]
    tokenizers = [_tokenizer(path) if path is not None else _own(what) for what, path in zip(whats, given, strict=True)]
    found = next((tokenizer for tokenizer in tokenizers if tokenizer is not None), None)
    opened = [
        _opened(what, tokenizer or found, options, terminal) for what, tokenizer in zip(whats, tokenizers, strict=True)
    ]
    return tuple(_told_apart(opened, whats))


def _opened(what: str, tokenizer: Tokenizer | None, options: ExploreOptions, terminal: Terminal) -> Opened:
    from folio.corpus.exploring import deduplicated

    kind = kind_of(what)
    material = _shards(what, tokenizer, options) if kind == "shards" else _text(what, kind, options, terminal)
    if options.deduplicate:
        material = deduplicated(material)
    return Opened(material, tokenizer, _token_count(tokenizer) if tokenizer is not None else None)


def _text(what: str, kind: Kind, options: ExploreOptions, terminal: Terminal) -> Material:
    from folio.corpus import CorpusConfig, open_corpus
    from folio.corpus.exploring import corpus_material, source_material
    from folio.corpus.sources import SourceConfig, open_source

    looked: dict[str, Any] = {"limit": options.limit, "sample": options.sample or 0, "seed": options.seed}
    if kind == "named":
        config = CorpusConfig(name=what, from_file=options.from_file, nfc=options.nfc, deduplicate=False)
        return corpus_material(open_corpus(config), **looked)
    settings: dict[str, Any] = {"path": what, "text_field": options.text_field, "nfc": options.nfc}
    settings |= {"damaged": options.damaged, "checksums": not (options.sample or options.limit)}
    if kind == "elsewhere":
        settings |= {"configuration": options.configuration, "split": options.split or "train"}
    source = open_source(SourceConfig(**settings), tell=terminal.print)
    return source_material(source, **looked, tell=terminal.print)


def _shards(what: str, tokenizer: Tokenizer | None, options: ExploreOptions) -> Material:
    from folio.shards import open_shards
    from folio.shards.documents import shards_material

    folder = Path(what).expanduser()
    if tokenizer is None:
        made_by = _made_by(folder)
        by = f"a {made_by['kind']} tokenizer of {made_by['vocab_size']:,} ids" if made_by else "an unknown tokenizer"
        raise ArtifactError(
            f"shards '{what}' were made by {by}, and their text cannot be read without it",
            "Give the tokenizer that made them: --tokenizer FOLDER",
        )
    shards = open_shards(folder, tokenizer, verify=False)
    splits = (options.split,) if options.split else ()
    return shards_material(
        shards, tokenizer, splits, limit=options.limit, sample=options.sample or 0, seed=options.seed
    )


def _own(what: str) -> Tokenizer | None:
    """GPT-2's tokenizer for shards that say they were made by it; None for anything else."""
    if kind_of(what) != "shards":
        return None
    made_by = _made_by(Path(what).expanduser())
    return _tokenizer(Path(GPT2)) if made_by.get("kind") == GPT2 else None


def _made_by(folder: Path) -> dict[str, Any]:
    """What the manifest of shards says about their tokenizer; nothing of files that others made."""
    from folio.artifacts import MANIFEST, read_manifest

    return dict(read_manifest(folder).config["tokenizer"]) if (folder / MANIFEST).is_file() else {}


def _tokenizer(path: Path) -> Tokenizer:
    from folio.tokenizer import gpt2_tokenizer, load_tokenizer

    return gpt2_tokenizer() if str(path) == GPT2 and not path.exists() else load_tokenizer(path)


def _token_count(tokenizer: Tokenizer) -> Callable[[str], int]:
    """How many ids a text has; a very long one is encoded in pieces, so that it costs no more memory than others."""
    from folio.shards.chunks import safe_pieces

    return lambda text: sum(len(tokenizer.encode_array(piece)) for piece in safe_pieces(text, tokenizer))


def _told_apart(opened: list[Opened], whats: list[str]) -> list[Opened]:
    """With names that differ: the whole path where the last part is the same, "again" for a thing and itself."""
    if len(opened) < 2 or opened[0].material.name != opened[1].material.name:
        return opened
    names = whats if whats[0] != whats[1] else [opened[0].material.name, f"{opened[1].material.name} (again)"]
    return [replace(each, material=replace(each.material, name=name)) for each, name in zip(opened, names, strict=True)]
