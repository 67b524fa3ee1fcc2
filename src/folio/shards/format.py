"""The file format of llm.c: 256 little-endian int32 of header, then the ids.

header[0] is the magic number, [1] the version, [2] the number of ids, the rest zero.
uint16 ids: magic 20240520, version 1 (llm.c's GPT-2 data, modded-nanogpt). uint32 ids: magic 20240801, version 7
(llm.c's Llama 3 data).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from folio.errors import ArtifactError

HEADER_BYTES = 256 * 4
MOST_TOKENS = 2**31 - 1
"""The header counts tokens in an int32."""
AGAIN = "Restore what is damaged, or remove the folder and write the shards again."

IdType = np.dtype[Any]

UINT16: IdType = np.dtype("<u2")
UINT32: IdType = np.dtype("<u4")
MARKS: dict[IdType, tuple[int, int]] = {UINT16: (20240520, 1), UINT32: (20240801, 7)}


class Header(NamedTuple):
    """Type and number of the ids in one file."""

    dtype: IdType
    tokens: int


def dtype_for(vocab_size: int) -> IdType:
    """uint16 while every id fits in it, which is up to 65,536 ids; else uint32."""
    return UINT16 if vocab_size <= 2**16 else UINT32


def header_bytes(header: Header) -> bytes:
    """The 1,024 bytes that open a file."""
    fields = np.zeros(256, dtype="<i4")
    fields[:3] = (*MARKS[header.dtype], header.tokens)
    return fields.tobytes()


def read_header(path: Path) -> Header:
    """The header of ``path``, checked against the size of the file; no ids are read.

    Raises :class:`ArtifactError` for a file that is missing, is no shard, is cut short or has something behind it.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(HEADER_BYTES)
        found = path.stat().st_size
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ArtifactError(f"'{path}' cannot be read: {reason}", AGAIN) from None
    if len(raw) < HEADER_BYTES:
        raise ArtifactError(f"'{path}' is damaged: {found:,} bytes, less than its header", AGAIN)
    known = {marks: dtype for dtype, marks in MARKS.items()}
    magic, version, tokens = (int(field) for field in np.frombuffer(raw, dtype="<i4")[:3])
    dtype = known.get((magic, version))
    if dtype is None:
        raise ArtifactError(
            f"'{path}' is damaged, or is no shard of token ids: it begins with {magic}, {version}",
            AGAIN,
        )
    expected = HEADER_BYTES + tokens * dtype.itemsize
    if tokens < 0 or found != expected:
        raise ArtifactError(
            f"'{path}' is damaged: {found:,} bytes, where its header of {tokens:,} tokens asks for {expected:,}",
            AGAIN,
        )
    return Header(dtype, tokens)
