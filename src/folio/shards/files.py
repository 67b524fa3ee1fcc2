"""Ids to numbered files of an exact length, hashed as they are written."""

from __future__ import annotations

import hashlib
import os
from io import FileIO
from pathlib import Path

from folio.checksums import FileRecord
from folio.shards.format import HEADER_BYTES, Header, IdType, header_bytes
from folio.shards.stream import Ids


class SplitWriter:
    """Appends ids to ``split_000000.bin``, ``split_000001.bin``, ... in ``folder``, each of ``tokens_per_shard`` ids.

    ``tokens`` is what the files already hold and are to keep: anything behind it, left by a process that was killed, is
    cut off. A file's header counts its ids, so it is written as if the file will be full; only a split's last file is
    read once more for its hash when it turns out shorter.
    """

    def __init__(self, folder: Path, split: str, dtype: IdType, tokens_per_shard: int, tokens: int = 0) -> None:
        self._folder = folder
        self._split = split
        self._full = Header(dtype, tokens_per_shard)
        self._file: FileIO | None = None
        self._hash = hashlib.sha256()
        self.tokens = tokens
        self.files: dict[str, FileRecord] = {}
        if tokens % tokens_per_shard:
            self._reopen()

    def write(self, ids: Ids) -> None:
        """Append ``ids``, of the writer's type. Raises OSError when the disk does not take them."""
        while len(ids):
            if self._file is None:
                self._open()
            part = ids[: self._full.tokens - self.tokens % self._full.tokens]
            self._append(part.data.cast("B"))
            self.tokens += len(part)
            ids = ids[len(part) :]
            if self.tokens % self._full.tokens == 0:
                self._close()

    def sync(self) -> None:
        """Force what has been written to the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def finish(self) -> None:
        """Correct the header of the last file if it is not full, and close it."""
        rest = self.tokens % self._full.tokens
        if self._file is None or rest == 0:
            return
        self._file.seek(0)
        self._file.write(header_bytes(Header(self._full.dtype, rest)))
        self._file.seek(0)
        self._hash = hashlib.file_digest(self._file, "sha256")
        self._file.seek(0, os.SEEK_END)
        self._close(rest)

    def abandon(self) -> None:
        """Close without finishing; what was synced remains for a later process to go on from."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _path(self, index: int) -> Path:
        return self._folder / f"{self._split}_{index:06d}.bin"

    def _open(self) -> None:
        self._file = FileIO(self._path(self.tokens // self._full.tokens), "w+")
        self._hash = hashlib.sha256()
        self._append(memoryview(header_bytes(self._full)))

    def _reopen(self) -> None:
        kept = self.tokens % self._full.tokens
        self._file = FileIO(self._path(self.tokens // self._full.tokens), "r+")
        self._file.truncate(HEADER_BYTES + kept * self._full.dtype.itemsize)
        self._file.write(header_bytes(self._full))
        self._file.seek(0)
        self._hash = hashlib.file_digest(self._file, "sha256")
        self._file.seek(0, os.SEEK_END)

    def _append(self, content: memoryview) -> None:
        assert self._file is not None
        self._hash.update(content)
        while content:
            content = content[self._file.write(content) :]

    def _close(self, tokens: int | None = None) -> None:
        assert self._file is not None
        os.fsync(self._file.fileno())
        size = HEADER_BYTES + (tokens or self._full.tokens) * self._full.dtype.itemsize
        self.files[self._path((self.tokens - 1) // self._full.tokens).name] = FileRecord(
            bytes=size, sha256=self._hash.hexdigest()
        )
        self._file.close()
        self._file = None
