"""``folio corpus get NAME`` fetches named data; ``folio corpus explore PATH|NAME`` shows what a text is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from tyro.conf import Positional

from folio.config import Table
from folio.verbs.action import Action, Outcome, Terminal

if TYPE_CHECKING:
    from folio.corpus import Corpus, CorpusConfig, Document
    from folio.verbs.progress import Progress


class GetOptions(Table):
    """What to fetch, and from where."""

    name: Positional[str]
    """shakespeare, tinyshakespeare, gpt2 (the vocabulary), hellaswag (the benchmark), or hellaswag-train."""
    from_file: Path | None = None
    """The data as a file you have already; its checksum is verified, and no other mirror is asked."""


class ExploreOptions(Table):
    """Which text to explore, and how."""

    what: Positional[str]
    """A named corpus, or a file, folder or glob of .txt, .jsonl or .parquet (also .gz, .xz, .zst)."""
    to: Path | None = None
    """Folder for explore.json and report.html. Empty: data/explore/ and the corpus's name."""
    tokenizer: Path | None = None
    """A saved tokenizer; its ids are counted too."""
    limit: int = Field(default=0, ge=0)
    """Look at the first so many documents only; 0 is all."""
    from_file: Path | None = None
    """The named corpus as a file you have already."""
    text_field: str = Field(default="text", min_length=1)
    """The field of a .jsonl record, or the column of a .parquet, that holds the text."""
    nfc: bool = False
    """Compose Unicode to NFC first."""
    deduplicate: bool = True
    """Drop exact duplicates first."""


def get(options: GetOptions, terminal: Terminal) -> Outcome:
    """Fetch a row of the table and say what it holds, where it came from, and how it is split."""
    from folio.corpus import CorpusConfig, open_corpus
    from folio.corpus.mirrors import obtain, row_of

    row = row_of(options.name)
    fetched = obtain(options.name, from_file=options.from_file)
    source = "already in the cache" if fetched.mirror == "cache" else f"from {fetched.mirror}"
    terminal.print(f"{options.name}: {row.about} ({row.licence}); {source}, sha256 verified")
    files = {
        file.name: {"bytes": (fetched.folder / file.name).stat().st_size, "sha256": file.sha256} for file in row.files
    }
    data: dict[str, Any] = {"name": options.name, "licence": row.licence, "mirror": fetched.mirror, "files": files}
    if row.kind in ("vocabulary", "benchmark"):
        terminal.table(
            ("file", "bytes", "sha256"), [(name, file["bytes"], file["sha256"]) for name, file in files.items()]
        )
        use = (
            "folio evaluate MODEL --tasks hellaswag"
            if row.kind == "benchmark"
            else "folio tokenizer get gpt2 --to data/gpt2"
        )
        return Outcome(data, wrote=(fetched.folder,), next=(use,))
    corpus = open_corpus(CorpusConfig(name=options.name))
    data |= {"fingerprint": corpus.fingerprint, "splits": _splits(corpus)}
    columns = ("split", "documents", "characters")
    terminal.table(columns, [(split, *sizes.values()) for split, sizes in data["splits"].items()])
    return Outcome(data, wrote=(fetched.folder,), next=(f"folio corpus explore {options.name}",))


def explore(options: ExploreOptions, terminal: Terminal) -> Outcome:
    """Count, print the tables, and write ``explore.json`` and ``report.html``."""
    import json

    from folio.artifacts import new_folder, refuse_occupied, write_file, write_manifest
    from folio.corpus import open_corpus
    from folio.corpus.exploration import KIND, summary
    from folio.corpus.statistics import count
    from folio.reports.exploration import exploration_page

    corpus = open_corpus(_config(options))
    to = options.to or Path("data/explore") / corpus.name
    encoded_length = _encoded_length(options.tokenizer)
    refuse_occupied(to, allowed_kind=KIND)
    with terminal.progress("explore", None, "documents") as bar:
        statistics = count(_shown(islice(corpus.documents(), options.limit or None), bar), encoded_length)
    found = summary(statistics, None if options.limit else corpus.counts())
    with new_folder(to, replace=KIND) as folder:
        write_file(folder / "explore.json", json.dumps(found, ensure_ascii=False, indent=1) + "\n")
        exploration_page(corpus.name, statistics, found).write(folder / "report.html")
        write_manifest(folder, KIND, {"corpus": corpus.name, "fingerprint": corpus.fingerprint, "limit": options.limit})
    _print(terminal, found)
    follow = f"folio tokenizer train {options.what} --to data/bpe"
    return Outcome(found, wrote=(to / "explore.json", to / "report.html"), next=(follow,))


def _config(options: ExploreOptions) -> CorpusConfig:
    """The corpus that the options name, or the text they point at."""
    from folio.corpus import CorpusConfig
    from folio.corpus.config import is_named
    from folio.errors import ConfigError

    what = options.what
    named = is_named(what)
    if options.from_file is not None and not named:
        raise ConfigError(
            "--from-file belongs to a named corpus", f"Explore the file alone: folio corpus explore {what}"
        )
    return CorpusConfig(
        name=what if named else None,
        path=None if named else what,
        from_file=options.from_file,
        text_field=options.text_field,
        nfc=options.nfc,
        deduplicate=options.deduplicate,
    )


def _encoded_length(tokenizer: Path | None) -> Callable[[str], int] | None:
    if tokenizer is None:
        return None
    from folio.tokenizer import load_tokenizer

    encode = load_tokenizer(tokenizer).encode_array
    return lambda text: len(encode(text))


def _shown(documents: Iterator[Document], bar: Progress) -> Iterator[Document]:
    characters = 0
    for number, document in enumerate(documents, 1):
        yield document
        characters += len(document.text)
        bar.update(number, characters=f"{characters:,}")


def _splits(corpus: Corpus) -> dict[str, dict[str, int]]:
    sizes = {}
    for split in ("train", "val"):
        lengths = [len(document.text) for document in corpus.documents(split)]
        sizes[split] = {"documents": len(lengths), "characters": sum(lengths)}
    return sizes


def _print(terminal: Terminal, found: dict[str, Any]) -> None:
    names = ("documents", "characters", "bytes", "lines", "tokens", "types", "encoded_tokens")
    terminal.table(("", "count"), [(name.replace("_", " "), found[name]) for name in names if found[name] is not None])
    if found["cleaning"]:
        terminal.table(("cleaning", "documents"), [(k, v) for k, v in found["cleaning"].items() if k != "characters"])
    lengths = zip(found["document_tokens"]["quantiles"], found["line_tokens"]["quantiles"], strict=False)
    terminal.table(
        ("tokens no more than", "document", "line"),
        [(f"{document['quantile']:.0%}", document["tokens"], line["tokens"]) for document, line in lengths],
    )
    words = found["top_words"][:20]
    terminal.print("top words: " + ", ".join(f"{entry['word']} {entry['count']:,}" for entry in words))
    terminal.table(
        ("share of tokens", "types needed"), [(f"{e['share']:.0%}", e["types"]) for e in found["types_covering"]]
    )
    terminal.table(
        ("min count", "types", "% of tokens"),
        [(e["min_count"], e["types"], 100 * e["share"]) for e in found["min_count"]],
    )


ACTIONS = {
    "get": Action(
        GetOptions,
        get,
        "Fetch a named corpus or vocabulary into the cache.",
        examples=("folio corpus get shakespeare", "folio corpus get tinyshakespeare --from-file input.txt"),
    ),
    "explore": Action(
        ExploreOptions,
        explore,
        "Documents, lengths, words and vocabulary coverage of a text, as tables and a page.",
        examples=("folio corpus explore shakespeare", "folio corpus explore 'texts/**/*.jsonl.zst' --text-field body"),
    ),
}
