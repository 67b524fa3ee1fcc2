"""What ``folio corpus explore`` can be told, and which of it goes together."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from tyro.conf import Positional

from folio.config import Table
from folio.errors import ConfigError


class ExploreOptions(Table):
    """Which text to explore, and how."""

    what: Positional[str]
    """A named corpus; a file, folder or glob of .txt, .jsonl or .parquet (also .gz, .xz, .zst), here or at https://,
    s3:// and the like; a dataset of the hub, such as fineweb-edu; or a folder of shards."""
    against: str | None = None
    """Another text, named in the same ways, to set beside it on the page."""
    to: Path | None = None
    """Folder for explore.json and report.html. Empty: data/explore/ and the text's name."""
    tokenizer: Path | None = None
    """A saved tokenizer, or gpt2, whose tokens are counted too. Shards need the one that made them, if not GPT-2's."""
    against_tokenizer: Path | None = None
    """The other text's tokenizer, where it is another one."""
    sample: int | None = Field(default=None, ge=1)
    """Look at so many documents, drawn evenly over the whole text. Empty: all."""
    seed: int = Field(default=0, ge=0)
    """Decides which documents are drawn and shown."""
    limit: int = Field(default=0, ge=0)
    """Look at the first so many documents only; 0 is all."""
    block_size: int = Field(default=1024, ge=1)
    """Tokens in a row, for what packing does to documents; 512, 1024 and 2048 are shown as well."""
    configuration: str | None = None
    """The hub dataset's configuration, such as sample-10BT; none takes the dataset's own default."""
    split: str | None = None
    """The hub dataset's split, train unless given; or train or val of shards, both unless given."""
    from_file: Path | None = None
    """The named corpus as a file you have already."""
    text_field: str = Field(default="text", min_length=1)
    """The field of a .jsonl record, or the column of a .parquet, that holds the text."""
    nfc: bool = False
    """Compose Unicode to NFC first."""
    damaged: Literal["stop", "skip"] = "stop"
    """What to do at a row group or line that cannot be read: stop there, or pass over it and count it."""
    deduplicate: bool = False
    """Leave out exact duplicates, instead of counting them."""


Kind = Literal["named", "here", "elsewhere", "shards"]


def kind_of(what: str) -> Kind:
    """What kind of text ``what`` means, by its name and what lies on the disk."""
    from folio.corpus.config import is_named
    from folio.corpus.sources.listing import is_elsewhere

    if _is_shards(Path(what).expanduser()):
        return "shards"
    if is_elsewhere(what):
        return "elsewhere"
    return "named" if is_named(what) else "here"


def check(options: ExploreOptions, kinds: set[Kind]) -> None:
    """:class:`ConfigError` for options that contradict each other, or that none of the texts has a use for."""
    what = options.what
    if options.from_file is not None and "named" not in kinds:
        raise ConfigError(
            "--from-file belongs to a named corpus", f"Explore the file alone: folio corpus explore {what}"
        )
    if options.sample is not None and options.limit:
        raise ConfigError("--sample and --limit choose documents in two ways", "Give one of them.")
    if options.against_tokenizer is not None and options.against is None:
        raise ConfigError("--against-tokenizer is for the other text, and there is none", "Give --against as well.")
    given = {name for name, field in ExploreOptions.model_fields.items() if getattr(options, name) != field.default}
    for names, kinds_with, meaning in (
        (("split",), {"elsewhere", "shards"}, "a dataset of the hub and for shards"),
        (("configuration",), {"elsewhere"}, "a dataset of the hub"),
        (("damaged",), {"elsewhere", "here"}, "text in files"),
        (("nfc", "text_field"), {"elsewhere", "here", "named"}, "text"),
    ):
        if (idle := sorted(given & set(names))) and not kinds & kinds_with:
            flag = f"--{idle[0].replace('_', '-')}"
            raise ConfigError(f"{flag} is for {meaning}, and '{what}' is none", f"Leave {flag} out.")


def _is_shards(folder: Path) -> bool:
    """A folder of shards: by its manifest, or one of .bin files without any."""
    from folio.artifacts import MANIFEST, read_manifest
    from folio.shards.manifest import KIND, SPLITS

    if not (folder.is_dir() and any(folder.glob("*.bin"))):
        return False
    if (folder / MANIFEST).is_file():
        return read_manifest(folder).kind == KIND
    return any(any(folder.glob(f"*{split}*.bin")) for split in SPLITS)
