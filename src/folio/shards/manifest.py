"""What a shards folder says about itself, or what can be known of one that says nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folio.artifacts import FORMAT_VERSION, Manifest, Parent, environment
from folio.checksums import FileRecord
from folio.errors import ArtifactError
from folio.shards.format import Header, read_header

if TYPE_CHECKING:
    from folio.tokenizer import Tokenizer

KIND = "shards"
SPLITS = ("train", "val")


def describe(tokenizer: Tokenizer) -> dict[str, Any]:
    """What shards record about the tokenizer that made them."""
    return {name: getattr(tokenizer, name) for name in ("fingerprint", "kind", "vocab_size", "eot_id")}


def shards_manifest(config: dict[str, Any], files: dict[str, FileRecord], parents: Iterable[Parent] = ()) -> Manifest:
    """The manifest of shards whose files' sizes and sha256 are known already."""
    return Manifest(
        kind=KIND,
        format_version=FORMAT_VERSION,
        config=config,
        parents=tuple(parents),
        files=files,
        environment={**environment(), "device": "cpu"},
    )


def manifest_for_plain(folder: Path, about: dict[str, Any]) -> Manifest:
    """The manifest that files made by others lack. Their sha256 stays empty, for none was recorded.

    ``about`` is what :func:`describe` gives, or ``{"vocab_size": n}`` alone.
    """
    splits: dict[str, Any] = {}
    files: dict[str, FileRecord] = {}
    found: set[Header] = set()
    for name in SPLITS:
        headers = {path: read_header(path) for path in sorted(folder.glob(f"*{name}*.bin"))}
        if not headers:
            continue
        found |= {header._replace(tokens=0) for header in headers.values()}
        splits[name] = {
            "tokens": sum(header.tokens for header in headers.values()),
            "files": [path.name for path in headers],
        }
        files |= {path.name: FileRecord(bytes=path.stat().st_size, sha256="") for path in headers}
    if not splits:
        raise ArtifactError(f"'{folder}' has no *train*.bin and no *val*.bin", "Check the path, or rename the files.")
    if len(found) > 1:
        raise ArtifactError(f"'{folder}' mixes uint16 and uint32 files", "Keep one kind in a folder.")
    return shards_manifest({"tokenizer": about, "dtype": found.pop().dtype.name, "splits": splits}, files)
