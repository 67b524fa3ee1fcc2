"""``folio shards write``: text of any size to files of token ids."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from folio.config import Table, build
from folio.corpus.config import CorpusConfig
from folio.corpus.quality.config import QualityConfig
from folio.errors import ConfigError, nearest
from folio.shards.config import ShardsConfig
from folio.shards.machines.config import EngineConfig
from folio.shards.parts.config import DividedSourceOptions
from folio.shards.token_count import TokenCount
from folio.verbs.action import Outcome, Terminal
from folio.verbs.shards.looking import described, show

if TYPE_CHECKING:
    from folio.shards import Shards, WriteProgress
    from folio.tokenizer import Tokenizer

OF_A_SOURCE = ("tokens", "source", "quality", "engine")
"""What makes sense for a source alone: something that is read part by part."""


class WriteOptions(Table):
    """Which text, by which tokenizer, to which folder."""

    what: Positional[str]
    """A named corpus; a file, folder or glob of .txt, .jsonl or .parquet (also .gz, .xz, .zst), here or at https://,
    s3:// and the like; or a dataset of the hub, such as fineweb-edu."""
    tokenizer: Path | None = None
    """A folder that holds tokenizer.json. Empty: GPT-2's tokenizer."""
    to: Path | None = None
    """Folder for the shards. Empty: data/shards/ and the name of the text."""
    tokens: TokenCount | None = None
    """Stop with the document by which there are so many ids, such as 10B; the held out ones count. Empty: all of it."""
    shards: ShardsConfig = ShardsConfig()
    """How the ids are laid out."""
    source: DividedSourceOptions = DividedSourceOptions()
    """How a source is read and divided: what is read part by part, such as .parquet and datasets of the hub."""
    quality: QualityConfig = QualityConfig()
    """Which documents of a source stay, and what is changed in them."""
    engine: EngineConfig = EngineConfig()
    """Who does the work with a source: this machine, or many."""
    corpus: CorpusConfig = CorpusConfig()
    """How a corpus is cleaned and divided: a named one, or text that is read in one walk."""


def write(options: WriteOptions, terminal: Terminal) -> Outcome:
    """Encode the text; begun again after a kill or Ctrl-C it goes on from where it stopped."""
    from folio.tokenizer import gpt2_tokenizer, load_tokenizer

    of_source = _is_source(options)
    tokenizer = load_tokenizer(options.tokenizer) if options.tokenizer is not None else gpt2_tokenizer()
    return (_write_source if of_source else _write_corpus)(options, tokenizer, terminal)


def _is_source(options: WriteOptions) -> bool:
    """Whether the text is read part by part: what lies elsewhere, parquet, and whatever is asked what only a source
    can do. :class:`ConfigError` if what is asked does not go together."""
    from folio.corpus.config import is_named
    from folio.corpus.files import find_files
    from folio.corpus.sources.datasets import SHORT_NAMES
    from folio.corpus.sources.listing import is_elsewhere
    from folio.corpus.table import NAMED

    given = {name for name, field in WriteOptions.model_fields.items() if getattr(options, name) != field.default}
    asked = [name for name in OF_A_SOURCE if name in given]
    elsewhere = is_elsewhere(options.what)
    if not elsewhere and is_named(options.what):
        if options.what not in NAMED and (guess := nearest(options.what, (*NAMED, *SHORT_NAMES))):
            raise ConfigError(f"there is no text '{options.what}'", f"Did you mean '{guess}'?")
        if asked:
            raise ConfigError(
                f"--{asked[0]} is for a source, and '{options.what}' is a named corpus", "Leave it out, or give a path."
            )
        return False
    if "corpus" in given and (asked or elsewhere):
        what = f"--{asked[0]}" if asked else f"'{options.what}'"
        raise ConfigError(f"--corpus is for text read in one walk, and {what} means a source", "Use --source instead.")
    if asked or elsewhere:
        return True
    return "corpus" not in given and all(file.kind == ".parquet" for file in find_files(options.what))


def _write_source(options: WriteOptions, tokenizer: Tokenizer, terminal: Terminal) -> Outcome:
    from folio.verbs.sources import described as counted
    from folio.verbs.sources import lacking_tokens, plan_source, quality_data, show_documents, write_source

    to = options.to or _folder(options.what, options.tokens)
    writing = plan_source(
        options.what, options.source, options.quality, options.tokens, tokenizer, to, options.shards, terminal
    )
    written = write_source(writing, options.engine, options.shards.workers, terminal)
    if written is None:  # jobs of a cluster do it from here on
        return Outcome({"submitted": True}, next=("squeue --me", f"folio shards inspect {quote(str(to))}"))
    show(written.shards, terminal)
    show_documents(written, terminal)
    data = {
        "documents": counted(written.counts),
        "quality": quality_data(written.report),
        "lacking_tokens": lacking_tokens(writing, written),
    }
    return _outcome(written.shards, to, options.tokenizer, data)


def _write_corpus(options: WriteOptions, tokenizer: Tokenizer, terminal: Terminal) -> Outcome:
    from folio.corpus import open_corpus
    from folio.shards import write_shards

    to = options.to or _folder(options.what, None)
    corpus = open_corpus(_corpus_config(options))
    written: dict[str, int] = {}
    with terminal.progress("write shards", None, "token") as bar:

        def report(progress: WriteProgress) -> None:
            if progress.note:
                terminal.print(progress.note)
            documents, text = f"{progress.documents:,}", f"{progress.text_bytes / 1e6:,.1f} MB"
            written[progress.split] = progress.tokens
            bar.update(sum(written.values()), split=progress.split, documents=documents, text=text)

        shards = write_shards(
            {"train": lambda: corpus.documents("train"), "val": lambda: corpus.documents("val")},
            tokenizer,
            to,
            options.shards,
            source={"corpus": corpus.name, "fingerprint": corpus.fingerprint},
            on_progress=report,
        )
    show(shards, terminal)
    return _outcome(shards, to, options.tokenizer, {})


def _outcome(shards: Shards, to: Path, tokenizer: Path | None, data: dict[str, Any]) -> Outcome:
    by = "--tokenizer.kind gpt2" if tokenizer is None else f"--tokenizer.path {quote(str(tokenizer))}"
    recipe = "gpt2" if tokenizer is None else "RECIPE.toml"
    follow = f"folio train {recipe} --shards.path {quote(str(to))} {by}"
    return Outcome(described(shards) | data, wrote=(to,), next=(f"folio shards verify {quote(str(to))}", follow))


def _folder(what: str, tokens: int | None) -> Path:
    """Where shards go if nobody says: by the last part of the name, and the budget if there is one."""
    from folio.corpus.sources import SourceConfig
    from folio.corpus.sources.listing import name_of

    name = name_of(SourceConfig(path=what)).partition(" ")[0].rpartition("/")[2]
    return Path("data/shards") / (name if tokens is None else f"{name}-{tokens}")


def _corpus_config(options: WriteOptions) -> CorpusConfig:
    """The corpus that the options name, or the text they point at, with its own settings."""
    from folio.corpus.config import is_named

    what = options.what
    chosen = {"name": what} if is_named(what) else {"path": what}
    rest = options.corpus.model_dump(exclude_unset=True, exclude={"name", "path"})
    return build(CorpusConfig, rest | chosen, source=f"the corpus '{what}'")
