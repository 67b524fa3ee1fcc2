"""Which files a path, folder or glob means, and their bytes, unpacked as they are read."""

from __future__ import annotations

import glob
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from folio.errors import DataError, require

KINDS = (".txt", ".jsonl", ".parquet")
PACKINGS = (".gz", ".xz", ".zst")
READABLE = "Folio reads .txt, .jsonl and .parquet; .txt and .jsonl also as .gz, .xz or .zst"
_CHUNK_BYTES = 1 << 20


class Damaged(DataError):
    """Content that is not what its file's kind promises: bytes that are not UTF-8, a broken archive or line."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of text: its place, its ``name`` relative to what the user gave (the same on every machine), its kind."""

    path: Path
    name: str
    kind: str
    packing: str = ""


def find_files(given: str) -> list[TextFile]:
    """The files that a path, a folder (searched to its depth, hidden files aside) or a glob means, sorted by name.

    In folders and globs files of other kinds are passed over. :class:`DataError` if nothing is there or nothing fits.
    """
    path = Path(given).expanduser()
    if path.is_file():
        if (single := text_file(path, path.name)) is None:
            raise DataError(f"'{given}' is no kind of text known here", f"{READABLE}.")
        return [single]
    if path.is_dir():
        root, found = path, [file for file in path.rglob("*") if not _hidden(file.relative_to(path))]
    elif glob.has_magic(given):
        root = _fixed_part(path)
        found = [Path(match) for match in glob.glob(str(path), recursive=True)]
        if not found:
            raise DataError(f"nothing matches '{given}'", "Check the pattern; quote it so that the shell leaves it be.")
    else:
        raise DataError(f"'{given}' does not exist", "Check the path.")
    files = [text_file(file, file.relative_to(root).as_posix()) for file in found if file.is_file()]
    texts = sorted((file for file in files if file is not None), key=lambda file: file.name)
    if not texts:
        raise DataError(f"'{given}' holds no text", f"{READABLE}.")
    return texts


def text_file(path: Path, name: str) -> TextFile | None:
    """``path`` as a file of text, by its endings; None for one of a kind that is not read here."""
    packing = path.suffix if path.suffix in PACKINGS else ""
    kind = Path(path.stem).suffix if packing else path.suffix
    readable = kind in KINDS and not (packing and kind == ".parquet")
    return TextFile(path, name, kind, packing) if readable else None


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _fixed_part(pattern: Path) -> Path:
    """The folder above the first part of the pattern that has a wildcard."""
    for index, part in enumerate(pattern.parts):
        if glob.has_magic(part):
            return Path(*pattern.parts[:index])
    raise AssertionError("no wildcard in the pattern")


@contextmanager
def open_bytes(file: TextFile) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked. What goes wrong while it is open becomes a :class:`DataError` naming the file."""
    try:
        with open(file.path, "rb") as raw, unpacked(raw, file.packing, file.path) as stream:
            yield stream
    except FileNotFoundError:
        raise DataError(f"'{file.path}' was there and is gone", "Put it back, or leave it out of the path.") from None
    except OSError as error:
        raise DataError(f"'{file.path}' cannot be read: {error.strerror or error}", "Check the file.") from None


@contextmanager
def unpacked(raw: IO[bytes], packing: str, path: object) -> Iterator[IO[bytes]]:
    """What is packed in ``raw`` as ``.gz``, ``.xz``, ``.zst`` or not at all; :class:`Damaged` names ``path``."""
    zstandard = require("zstandard", "data") if packing == ".zst" else None
    damaged: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)
    if zstandard is not None:
        damaged += (zstandard.ZstdError,)
    try:
        if packing == ".gz":
            with gzip.GzipFile(fileobj=raw) as from_gzip:
                yield cast(IO[bytes], from_gzip)
        elif packing == ".xz":
            with lzma.LZMAFile(raw) as from_xz:
                yield from_xz
        elif zstandard is not None:
            yield io.BufferedReader(_ZstdStream(raw, zstandard), _CHUNK_BYTES)
        else:
            yield raw
    except damaged as error:
        raise Damaged(f"'{path}' is damaged: {error}", "Get the file again.") from None


class _ZstdStream(io.RawIOBase):
    """Zstandard frames, one after another, as one stream; a file that ends inside a frame raises EOFError.

    (``zstandard.stream_reader`` takes the end of the file for the end of the data.)
    """

    def __init__(self, raw: IO[bytes], zstandard: Any) -> None:
        self._raw = raw
        self._new_frame = zstandard.ZstdDecompressor().decompressobj
        self._frame: Any = None
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            self._packed = self._packed or self._raw.read(_CHUNK_BYTES // 8)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("the file ends in the middle of a frame")
                return 0
            self._frame = self._frame or self._new_frame()
            self._ready = memoryview(self._frame.decompress(self._packed))
            self._packed = self._frame.unused_data if self._frame.eof else b""
            self._frame = None if self._frame.eof else self._frame
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count
