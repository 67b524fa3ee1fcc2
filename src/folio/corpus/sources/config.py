"""Which large source, and how it is read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from folio.config import Table


class SourceOptions(Table):
    """How a source of documents is read, wherever it lies."""

    configuration: str | None = None
    """The hub dataset's configuration, such as sample-10BT; none takes the dataset's own default."""
    split: str = Field(default="train", min_length=1)
    """The hub dataset's split."""
    revision: str = Field(default="main", min_length=1)
    """The hub dataset's branch, tag or commit; whichever is given, the commit that it means is pinned."""
    text_field: str = Field(default="text", min_length=1)
    """The column of a .parquet, or the field of a .jsonl record, that holds the text."""
    id_field: str = Field(default="id", min_length=1)
    """The column or field that names the document, where there is one."""
    nfc: bool = False
    """Compose Unicode to NFC, so that letters with accents are written one way."""
    damaged: Literal["stop", "skip"] = "stop"
    """What to do at a row group or line that cannot be read: stop there, or pass over it and count it."""
    checksums: bool = True
    """Know local files by the sha256 of their content, which reads each once; else by size and time of change."""


class SourceConfig(SourceOptions):
    """A source of documents that is read part by part."""

    path: str = Field(min_length=1)
    """A file, a folder or a glob, here or at https://, s3:// and the like; hf://datasets/NAME/PATH; or a hub dataset's
    name, such as HuggingFaceFW/fineweb-edu or, for short, fineweb-edu."""
