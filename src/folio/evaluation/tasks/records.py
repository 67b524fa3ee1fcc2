"""The records of a benchmark's file: a line of .jsonl, a row of .parquet, or a line of .txt each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from folio.corpus.files import TextFile, find_files, open_bytes
from folio.errors import DataError, require

Record = Mapping[str, Any]


def read_records(path: Path, task: str, lines: str | None) -> Iterator[tuple[int, Record]]:
    """Every record and its line (row) number, from 1; blank lines are passed over but counted.

    ``lines`` is the field that a line of a .txt file becomes, None if the task ``task`` is not read from such files.
    Files may be packed (.gz, .xz, .zst), parquet aside. :class:`DataError`, with file and line, for what is unreadable.
    """
    file = task_file(path)
    if file.kind == ".txt" and lines is None:
        raise DataError(f"'{path}': '{task}' is not read from .txt", "Give a .jsonl or a .parquet file.")
    with open_bytes(file) as stream:
        if file.kind == ".parquet":
            yield from _rows(path, stream)
            return
        for number, line in enumerate(stream, 1):
            text = _decoded(path, number, line)
            if text.strip():
                yield number, ({lines: text.strip()} if file.kind == ".txt" else _object(path, number, text))  # type: ignore[dict-item]


def task_file(path: Path) -> TextFile:
    """The one file that ``path`` is; :class:`DataError` if it is none, or of a kind that is not read."""
    if path.is_dir():
        raise DataError(f"'{path}' is a folder, not a benchmark's file", "Give the .jsonl or .parquet file itself.")
    return find_files(str(path))[0]


def read_lines(path: Path) -> list[str]:
    """The lines of a small text file, without outer white space."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' cannot be read: {error}", "Check the file.") from None


def _object(path: Path, number: int, text: str) -> Record:
    where = f"'{path}', line {number}"
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where} is not JSON: {error.msg} (column {error.colno})", "Mend or remove the line."
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is JSON that cannot be read: {error}", "Mend or remove the line.") from None
    if not isinstance(record, dict):
        raise DataError(f"{where} holds {type(record).__name__}, not an object", "One JSON object a line is read.")
    return record


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"'{path}', line {number} is not UTF-8: byte {error.start:,} of the line is 0x{line[error.start]:02x}",
            f"Convert it, for example: iconv -f latin1 -t utf-8 '{path}'",
        ) from None


def _rows(path: Path, stream: IO[bytes]) -> Iterator[tuple[int, Record]]:
    pyarrow: Any = require("pyarrow", "data")
    parquet: Any = require("pyarrow.parquet", "data")
    number = 0
    try:
        table = parquet.ParquetFile(stream)
        for group in range(table.num_row_groups):
            for row in table.read_row_group(group).to_pylist():
                number += 1
                yield number, row
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"'{path}' is damaged after row {number}: {reason}", "Get the file again.") from None
