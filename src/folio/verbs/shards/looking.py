"""``folio shards inspect|verify``: what is in shards, and whether they are whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from tyro.conf import Positional

from folio.config import Table
from folio.verbs.action import Outcome, Terminal

if TYPE_CHECKING:
    from folio.shards import Shards

SHOWN_TOKENS = 60


class InspectOptions(Table):
    """Which shards, and how to read them."""

    shards: Positional[Path]
    """The folder that folio shards write made, or one with .bin files of llm.c or modded-nanogpt."""
    tokenizer: Path | None = None
    """The tokenizer that made them: shows the text they begin with; needed for the counts of files made by others."""
    vocab_size: int | None = Field(default=None, ge=1)
    """Size of the vocabulary, for files made by others whose tokenizer is not at hand."""


class VerifyOptions(InspectOptions):
    """Which shards to read whole."""


def inspect(options: InspectOptions, terminal: Terminal) -> Outcome:
    """Show what shards hold and where they come from, from manifest and headers alone."""
    shards = _opened(options)
    show(shards, terminal)
    data = described(shards)
    if options.tokenizer is not None:
        from folio.tokenizer import load_tokenizer

        tokenizer = load_tokenizer(options.tokenizer)
        data["begins"] = {}
        for name in shards.splits:
            ids = shards.split(name).read(0, min(SHOWN_TOKENS, shards.tokens(name)))
            data["begins"][name] = tokenizer.decode(ids)
            terminal.print(f"{name} begins: {data['begins'][name]!r}")
    return Outcome(data, next=(f"folio shards verify {options.shards}",))


def verify(options: VerifyOptions, terminal: Terminal) -> Outcome:
    """Read every byte: sha256 of each file, and that each id is in the vocabulary. Names what is damaged."""
    from folio.shards import verify_shards

    shards = _opened(options)
    files = shards.manifest.files
    total = sum(record.bytes for record in files.values())
    with terminal.progress("verify shards", total, "byte") as bar:
        verify_shards(shards, bar.update)
    summed = all(record.sha256 for record in files.values())
    sums = "every sha256 is the manifest's" if summed else "no sha256 was recorded for these files"
    terminal.print(f"{len(files)} files, {total:,} bytes: {sums}; every id is below {shards.vocab_size:,}")
    return Outcome(described(shards) | {"verified_files": len(files), "verified_bytes": total, "sha256": summed})


def _opened(options: InspectOptions) -> Shards:
    from folio.shards import open_shards

    if options.tokenizer is None:
        return open_shards(options.shards, vocab_size=options.vocab_size, verify=False)
    from folio.tokenizer import load_tokenizer

    return open_shards(options.shards, load_tokenizer(options.tokenizer), vocab_size=options.vocab_size, verify=False)


def described(shards: Shards) -> dict[str, Any]:
    from folio.errors import DataError

    splits: dict[str, dict[str, Any]] = {}
    for name in shards.splits:
        counts: dict[str, Any] = {"tokens": shards.tokens(name), "files": len(shards.split(name).paths)}
        try:
            counts |= {"documents": shards.documents(name), "text_bytes": shards.text_bytes(name)}
            counts["bytes_per_token"] = shards.bytes_per_token(name)
        except DataError:  # files made by others, and no tokenizer given
            counts |= dict.fromkeys(("documents", "text_bytes", "bytes_per_token"))
        splits[name] = counts
    config = shards.manifest.config
    return {
        "id": shards.manifest.id,
        "tokenizer": config["tokenizer"],
        "dtype": config["dtype"],
        "source": config.get("source"),
        "splits": splits,
    }


def show(shards: Shards, terminal: Terminal) -> None:
    about = described(shards)
    made_by = about["tokenizer"]
    source = (about["source"] or {}).get("corpus", "files made by others")
    kind = made_by.get("kind", "unknown")
    terminal.print(f"{source}, by tokenizer {kind} of {made_by['vocab_size']:,} ids, {about['dtype']}")
    columns = ("tokens", "documents", "text_bytes", "bytes_per_token", "files")
    rows = [(name, *(counts[column] for column in columns)) for name, counts in about["splits"].items()]
    terminal.table(("split", "tokens", "documents", "text bytes", "bytes/token", "files"), rows)
