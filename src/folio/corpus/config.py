"""Which text, and which part of it is held out."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from folio.config import Table
from folio.corpus.table import NAMED


class CorpusConfig(Table):
    """Which text to learn from, how it is cleaned, and which part of it is held out."""

    name: str | None = "shakespeare"
    """A named corpus: shakespeare or tinyshakespeare. Set aside when path is given."""
    from_file: Path | None = None
    """The named corpus as a file you have already; its checksum is verified."""
    path: str | None = None
    """Your own text instead: a .txt, .jsonl or .parquet file (also .gz, .xz, .zst), a folder, or a glob."""
    text_field: str = Field(default="text", min_length=1)
    """The field of a .jsonl record, or the column of a .parquet, that holds the text."""
    nfc: bool = False
    """Compose Unicode to NFC, so that letters with accents are written one way."""
    deduplicate: bool = True
    """Drop a document whose text is exactly that of an earlier one."""
    split: Literal["auto", "hash", "list", "tail"] = "auto"
    """What is held out: documents by hash of their text, the listed ones, or the end of the only one. Auto: the list if
    one is given, a named corpus's own rule, tail for one document, else hash."""
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Part held out: of the documents (hash) or of the characters (tail)."""
    validation_documents: tuple[str, ...] = ()
    """Ids of the documents held out by the list."""

    @model_validator(mode="before")
    @classmethod
    def _path_sets_the_name_aside(cls, given: Any) -> Any:
        """A path given on top of a preset's name means the path."""
        return {**given, "name": None} if isinstance(given, dict) and given.get("path") is not None else given

    @model_validator(mode="after")
    def _one_source_one_split(self) -> Self:
        if self.name is None and self.path is None:
            raise ValueError("give a name or a path")
        if self.from_file is not None and self.name is None:
            raise ValueError("from_file belongs to a named corpus; for your own text give path alone")
        if self.split in ("hash", "tail") and self.validation_documents:
            raise ValueError(f"validation_documents belong to split 'list', not '{self.split}'")
        return self


def is_named(what: str) -> bool:
    """Whether ``what``, a name or a path, means a row of the table.

    What is neither on disk nor like a path is taken for a misspelt name.
    """
    path_like = Path(what).expanduser().exists() or glob.has_magic(what) or any(mark in what for mark in "/\\.")
    return what in NAMED or not path_like
