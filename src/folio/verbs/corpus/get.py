"""``folio corpus get``: a row of the table of named data, fetched and checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from folio.config import Table
from folio.verbs.action import Outcome, Terminal

if TYPE_CHECKING:
    from folio.corpus import Corpus


class GetOptions(Table):
    """What to fetch, and from where."""

    name: Positional[str]
    """shakespeare, tinyshakespeare, gpt2 (the vocabulary), hellaswag (the benchmark), or hellaswag-train."""
    from_file: Path | None = None
    """The data as a file you have already; its checksum is verified, and no other mirror is asked."""


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


def _splits(corpus: Corpus) -> dict[str, dict[str, int]]:
    sizes = {}
    for split in ("train", "val"):
        lengths = [len(document.text) for document in corpus.documents(split)]
        sizes[split] = {"documents": len(lengths), "characters": sum(lengths)}
    return sizes
