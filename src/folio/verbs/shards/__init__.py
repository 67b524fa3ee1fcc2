"""``folio shards write|inspect|verify``: text to files of token ids, what is in them, and whether they are whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from tyro.conf import Positional

from folio.config import Table, build
from folio.corpus.config import CorpusConfig
from folio.shards.config import ShardsConfig
from folio.verbs.action import Action, Outcome, Terminal

if TYPE_CHECKING:
    from folio.shards import Shards, WriteProgress

SHOWN_TOKENS = 60


class WriteOptions(Table):
    """Which text, by which tokenizer, to which folder."""

    what: Positional[str]
    """A named corpus, or a file, folder or glob of .txt, .jsonl or .parquet (also .gz, .xz, .zst)."""
    tokenizer: Path
    """A folder that holds tokenizer.json."""
    to: Path
    """Folder for the shards."""
    corpus: CorpusConfig = CorpusConfig()
    """How the text is cleaned, and what is held out."""
    shards: ShardsConfig = ShardsConfig()
    """How the ids are laid out."""


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


def write(options: WriteOptions, terminal: Terminal) -> Outcome:
    """Encode the corpus; begun again after a kill or Ctrl-C it goes on from where it stopped."""
    from folio.corpus import open_corpus
    from folio.shards import write_shards
    from folio.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(options.tokenizer)
    corpus = open_corpus(_corpus_config(options))
    written: dict[str, int] = {}
    with terminal.progress("write shards", None, "token") as bar:

        def show(progress: WriteProgress) -> None:
            if progress.note:
                terminal.print(progress.note)
            documents, text = f"{progress.documents:,}", f"{progress.text_bytes / 1e6:,.1f} MB"
            written[progress.split] = progress.tokens
            bar.update(sum(written.values()), split=progress.split, documents=documents, text=text)

        shards = write_shards(
            {"train": lambda: corpus.documents("train"), "val": lambda: corpus.documents("val")},
            tokenizer,
            options.to,
            options.shards,
            source={"corpus": corpus.name, "fingerprint": corpus.fingerprint},
            on_progress=show,
        )
    _print(shards, terminal)
    follow = f"folio train PRESET --shards.path {options.to} --tokenizer.path {options.tokenizer}"
    return Outcome(_described(shards), wrote=(options.to,), next=(f"folio shards verify {options.to}", follow))


def inspect(options: InspectOptions, terminal: Terminal) -> Outcome:
    """Show what shards hold and where they come from, from manifest and headers alone."""
    shards = _opened(options)
    _print(shards, terminal)
    data = _described(shards)
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
    return Outcome(_described(shards) | {"verified_files": len(files), "verified_bytes": total, "sha256": summed})


def _corpus_config(options: WriteOptions) -> CorpusConfig:
    """The corpus that the options name, or the text they point at, with its own settings."""
    from folio.corpus.config import is_named

    what = options.what
    chosen = {"name": what} if is_named(what) else {"path": what}
    rest = options.corpus.model_dump(exclude_unset=True, exclude={"name", "path"})
    return build(CorpusConfig, rest | chosen, source=f"the corpus '{what}'")


def _opened(options: InspectOptions) -> Shards:
    from folio.shards import open_shards

    if options.tokenizer is None:
        return open_shards(options.shards, vocab_size=options.vocab_size, verify=False)
    from folio.tokenizer import load_tokenizer

    return open_shards(options.shards, load_tokenizer(options.tokenizer), vocab_size=options.vocab_size, verify=False)


def _described(shards: Shards) -> dict[str, Any]:
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


def _print(shards: Shards, terminal: Terminal) -> None:
    about = _described(shards)
    made_by = about["tokenizer"]
    source = (about["source"] or {}).get("corpus", "files made by others")
    kind = made_by.get("kind", "unknown")
    terminal.print(f"{source}, by tokenizer {kind} of {made_by['vocab_size']:,} ids, {about['dtype']}")
    columns = ("tokens", "documents", "text_bytes", "bytes_per_token", "files")
    rows = [(name, *(counts[column] for column in columns)) for name, counts in about["splits"].items()]
    terminal.table(("split", "tokens", "documents", "text bytes", "bytes/token", "files"), rows)


ACTIONS = {
    "write": Action(
        WriteOptions,
        write,
        "Turn text into files of token ids.",
        examples=(
            "folio shards write shakespeare --tokenizer data/bpe --to data/shards",
            "folio shards write 'texts/*.txt' --tokenizer data/bpe --to data/shards --corpus.validation-fraction 0.05",
        ),
    ),
    "inspect": Action(
        InspectOptions,
        inspect,
        "Show what shards hold.",
        examples=("folio shards inspect data/shards --tokenizer data/bpe",),
    ),
    "verify": Action(
        VerifyOptions,
        verify,
        "Read every byte and compare it with the manifest.",
        examples=("folio shards verify data/shards",),
    ),
}
