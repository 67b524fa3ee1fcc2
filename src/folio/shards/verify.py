"""Every byte of a folder of shards against what its manifest says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from folio.checksums import FileRecord
from folio.errors import ArtifactError
from folio.shards.folder import Shards
from folio.shards.format import AGAIN, HEADER_BYTES, read_header
from folio.shards.stream import TokenStream


def verify_shards(shards: Shards, on_progress: Callable[[int], None] = lambda checked_bytes: None) -> None:
    """Read all files once: each sha256 must be the manifest's, each id below ``vocab_size``.

    Opening has checked the manifest and the sizes, and the sums unless told not to. ``on_progress`` is told the bytes
    read so far. Raises one :class:`ArtifactError` that names every damaged file. Files without a recorded sha256 are
    checked for ids alone.
    """
    faults = []
    checked = 0
    for name in shards.splits:
        for path in shards.split(name).paths:
            fault, checked = _fault(path, shards.manifest.files[path.name], shards.vocab_size, checked, on_progress)
            if fault:
                faults.append(f"'{path}' is damaged: {fault}")
    if faults:
        raise ArtifactError("; ".join(faults), AGAIN)


def _fault(
    path: Path, record: FileRecord, vocab_size: int, checked: int, on_progress: Callable[[int], None]
) -> tuple[str, int]:
    digest, largest = hashlib.sha256(), 0
    with open(path, "rb") as file:
        digest.update(file.read(HEADER_BYTES))
    checked += HEADER_BYTES
    for block in TokenStream([(path, read_header(path))]).blocks():
        digest.update(block.data.cast("B"))
        largest = max(largest, int(block.max()))
        checked += block.nbytes
        on_progress(checked)
    if record.sha256 and digest.hexdigest() != record.sha256:
        return "its sha256 is not the manifest's", checked
    if largest >= vocab_size:
        return f"it holds id {largest:,}, where the vocabulary has {vocab_size:,}", checked
    return "", checked
