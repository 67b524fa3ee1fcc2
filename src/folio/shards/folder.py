"""A folder of shards: open it, and read its ids and counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from folio.artifacts import MANIFEST, Manifest, read_manifest
from folio.checksums import check_files
from folio.errors import ArtifactError, DataError
from folio.shards.access import suitable_access
from folio.shards.format import AGAIN, read_header
from folio.shards.manifest import KIND, describe, manifest_for_plain
from folio.shards.stream import TokenStream

if TYPE_CHECKING:
    from folio.tokenizer import Tokenizer


class Shards:
    """Token ids on disk, by split. Made by :func:`open_shards`."""

    def __init__(
        self, path: Path, manifest: Manifest, streams: dict[str, TokenStream], tokenizer: Tokenizer | None
    ) -> None:
        self.path = path
        self.manifest = manifest
        self._streams = streams
        self._tokenizer = tokenizer

    @property
    def vocab_size(self) -> int:
        return int(self.manifest.config["tokenizer"]["vocab_size"])

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._streams)

    def split(self, name: str) -> TokenStream:
        """All ids of one split. Raises :class:`DataError` if there is no such split."""
        if name not in self._streams:
            has = ", ".join(self._streams)
            raise DataError(f"'{self.path}' has no split '{name}', only {has}", "Write shards that have it.")
        return self._streams[name]

    def read_by(self, access: Literal["auto", "map", "read"]) -> Shards:
        """The same shards, read in that way; "auto" as their size and file system suggest."""
        size_bytes = sum(len(stream) * stream.dtype.itemsize for stream in self._streams.values())
        way = suitable_access(self.path, size_bytes) if access == "auto" else access
        streams = {name: stream.by(way) for name, stream in self._streams.items()}
        return Shards(self.path, self.manifest, streams, self._tokenizer)

    def tokens(self, name: str) -> int:
        """Ids in one split, the end-of-text id of each document among them."""
        return len(self.split(name))

    def documents(self, name: str) -> int:
        return self._counts(name)["documents"]

    def text_bytes(self, name: str) -> int:
        """UTF-8 bytes of the documents' text; the end-of-text ids count for nothing."""
        return self._counts(name)["text_bytes"]

    def bytes_per_token(self, name: str) -> float:
        """UTF-8 bytes of text for each id: bits/byte = nats/token / ln 2 / this."""
        return self.text_bytes(name) / self.tokens(name)

    def _counts(self, name: str) -> dict[str, int]:
        self.split(name)
        recorded: dict[str, int] = self.manifest.config["splits"][name]
        return recorded if "documents" in recorded else self._measured[name]

    @cached_property
    def _measured(self) -> dict[str, dict[str, int]]:
        """Counts of a folder without a manifest, from its ids and the bytes that each stands for."""
        tokenizer = self._tokenizer
        if tokenizer is None or tokenizer.eot_id is None:
            raise DataError(
                f"'{self.path}' has no manifest, so its documents and bytes of text are not known",
                "Open it with the tokenizer that made it.",
            )
        lengths = np.array([len(tokenizer.token_bytes(id)) for id in range(tokenizer.vocab_size)])
        lengths[tokenizer.eot_id] = 0
        measured = {}
        for name, stream in self._streams.items():
            seen = np.zeros(len(lengths), dtype=np.int64)
            for block in stream.blocks():
                counts = np.bincount(block, minlength=len(lengths))
                if len(counts) > len(lengths):
                    raise ArtifactError(
                        f"'{self.path}' holds id {len(counts) - 1:,}; its vocabulary has {len(lengths):,}",
                        "Open it with the tokenizer that made it.",
                    )
                seen += counts
            measured[name] = {"documents": int(seen[tokenizer.eot_id]), "text_bytes": int(seen @ lengths)}
        return measured


def open_shards(
    path: Path | str,
    tokenizer: Tokenizer | None = None,
    *,
    vocab_size: int | None = None,
    verify: bool = True,
    on_progress: Callable[[int], None] | None = None,
) -> Shards:
    """Open a folder of shards: compares every file with the manifest, by size, header and sha256.

    ``verify=False`` leaves the sha256 out and reads no ids. ``on_progress`` is told the bytes read so far.

    A plain folder of llm.c or modded-nanogpt files (``*train*.bin``, ``*val*.bin``) has no manifest, so that sizes and
    headers are all there is to check; it opens when the ``tokenizer`` that made it, or at least the ``vocab_size``, is
    stated.

    Raises :class:`ArtifactError` for a folder that is damaged, of another kind, or made by another tokenizer.
    """
    folder = Path(path)
    plain = not (folder / MANIFEST).exists() and any(folder.glob("*.bin"))
    if not plain:
        manifest = read_manifest(folder, KIND)
    elif tokenizer is not None:
        manifest = manifest_for_plain(folder, describe(tokenizer))
    elif vocab_size is not None:
        manifest = manifest_for_plain(folder, {"vocab_size": vocab_size})
    else:
        raise ArtifactError(
            f"'{folder}' holds .bin files without a manifest, so their vocabulary is not known",
            "State the tokenizer that made them, or the size of its vocabulary.",
        )
    _refuse_other_vocabulary(folder, manifest, tokenizer, vocab_size)
    streams = {name: _stream(folder, manifest, name) for name in manifest.config["splits"]}
    if verify:
        check_files(folder, manifest.files, AGAIN, on_progress)
    return Shards(folder, manifest, streams, tokenizer).read_by("auto")


def _stream(folder: Path, manifest: Manifest, name: str) -> TokenStream:
    recorded = manifest.config["splits"][name]
    files = []
    for file in recorded["files"]:
        path, dtype, size = folder / file, np.dtype(manifest.config["dtype"]), manifest.files[file].bytes
        header = read_header(path)
        if header.dtype != dtype or path.stat().st_size != size:
            raise ArtifactError(
                f"'{path}' is damaged: {path.stat().st_size:,} bytes of {header.dtype.name} ids, where the manifest "
                f"says {size:,} of {dtype.name}",
                AGAIN,
            )
        files.append((path, header))
    stream = TokenStream(files)
    if len(stream) != recorded["tokens"]:
        raise ArtifactError(
            f"'{folder}' is damaged: {len(stream):,} tokens of {name}, where the manifest says {recorded['tokens']:,}",
            AGAIN,
        )
    return stream


def _refuse_other_vocabulary(
    folder: Path, manifest: Manifest, tokenizer: Tokenizer | None, vocab_size: int | None
) -> None:
    made_by = manifest.config["tokenizer"]
    remedy = "Write shards with this tokenizer: folio shards write"
    if tokenizer is not None and made_by["fingerprint"] != tokenizer.fingerprint:
        raise ArtifactError(
            f"shards '{folder}' were made by another tokenizer ({made_by['kind']}, {made_by['vocab_size']} ids); "
            f"this one is {tokenizer.kind}, {tokenizer.vocab_size} ids",
            remedy,
        )
    if vocab_size is not None and made_by["vocab_size"] != vocab_size:
        raise ArtifactError(
            f"shards '{folder}' were made for {made_by['vocab_size']} ids, not for {vocab_size}", remedy
        )
