"""Documents out of files: a .txt is one, a .jsonl has one a line, a .parquet one a row.

A .txt is held whole (it is one document); a .jsonl line by line; a .parquet row group by row group.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import IO, Any, Protocol

from folio.corpus.document import Document
from folio.corpus.files import Damaged, TextFile, open_bytes
from folio.errors import DataError, nearest, require

_BOM = b"\xef\xbb\xbf"
TEXT_FIELD_FLAGS = "--text-field, --source.text-field or --corpus.text-field"
"""How commands call ``text_field``, each by one of these."""


class Named(Protocol):
    """A file as messages call it (``path``) and as its documents do (``name``)."""

    @property
    def path(self) -> object: ...

    @property
    def name(self) -> str: ...


def read_documents(file: TextFile, text_field: str) -> Iterator[Document]:
    """The documents of one file, in order, uncleaned.

    A record's own ``id`` (text or a whole number) names it; without one the file's name and its line or row, from 1.
    :class:`DataError`, naming the file and the place, for bytes that are not UTF-8, a line that is not a JSON object,
    and a record without a text under ``text_field`` (null is an empty text).
    """
    readers = {".txt": _read_txt, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    return readers[file.kind](file, text_field)


def _read_txt(file: TextFile, text_field: str) -> Iterator[Document]:
    with open_bytes(file) as stream:
        yield text_in(stream, file)


def _read_jsonl(file: TextFile, text_field: str) -> Iterator[Document]:
    with open_bytes(file) as stream:
        yield from records_in(stream, file, text_field)


def text_in(stream: IO[bytes], file: Named) -> Document:
    """All of an unpacked stream as one document."""
    return Document(file.name, _decoded(stream.read(), file, 0), file.name)


def records_in(
    stream: IO[bytes],
    file: Named,
    text_field: str,
    *,
    id_field: str = "id",
    on_damage: Callable[[Damaged], None] | None = None,
) -> Iterator[Document]:
    """The documents of an unpacked stream of JSON lines. A line that cannot be read is an error, or with ``on_damage``
    told and passed over; a record without a text under ``text_field`` is an error either way."""
    offset = 0
    for number, line in enumerate(stream, 1):
        try:
            text = _decoded(line, file, offset)
            document = _record(text, file, number, text_field, id_field) if text.strip() else None
        except Damaged as error:
            if on_damage is None:
                raise
            on_damage(error)
            document = None
        offset += len(line)
        if document is not None:
            yield document


def _record(line: str, file: Named, number: int, text_field: str, id_field: str) -> Document:
    where = f"'{file.path}', line {number}"
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        problem = f"{where} is not JSON: {error.msg} (column {error.colno})"
        raise Damaged(problem, "Mend or remove the line.") from None
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{where} is JSON that cannot be read: {error}", "Mend or remove the line.") from None
    if not isinstance(record, dict):
        raise Damaged(f"{where} holds {type(record).__name__}, not an object", "Write one JSON object a line.")
    if text_field not in record:
        raise DataError(f"{where} has no field '{text_field}'", _field_remedy(text_field, _texts_of(record)))
    text = "" if record[text_field] is None else record[text_field]
    if not isinstance(text, str):
        problem = f"{where}: '{text_field}' is {type(text).__name__}, not text"
        raise DataError(problem, _field_remedy(text_field, _texts_of(record)))
    if not _encodable(text):
        raise Damaged(f"{where} holds half a surrogate pair, which is no text", "Mend or remove the line.")
    return Document(document_id(record.get(id_field), f"{file.name}:{number}"), text, file.name)


def _read_parquet(file: TextFile, text_field: str) -> Iterator[Document]:
    pyarrow: Any = require("pyarrow", "data")
    parquet: Any = require("pyarrow.parquet", "data")
    number = 0
    with open_bytes(file) as stream:
        try:
            table = parquet.ParquetFile(stream)
            columns = list(table.schema_arrow.names)
            check_column(file, text_field, columns, table.schema_arrow, pyarrow)
            wanted = [name for name in (text_field, "id") if name in columns]
            for group in range(table.num_row_groups):
                rows = table.read_row_group(group, columns=wanted).to_pydict()
                names = rows.get("id") or [None] * len(rows[text_field])
                for name, text in zip(names, rows[text_field], strict=True):
                    number += 1
                    yield Document(document_id(name, f"{file.name}:{number}"), text or "", file.name)
        except (pyarrow.ArrowException, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"'{file.path}' is damaged after row {number}: {reason}", "Get the file again.") from None


def check_column(file: Named, text_field: str, columns: list[str], schema: Any, pyarrow: Any) -> None:
    """:class:`DataError`, with the columns that hold text, unless this one is there and does."""
    kinds = {column.name: column.type for column in schema}
    texts = [
        name for name in columns if pyarrow.types.is_string(kinds[name]) or pyarrow.types.is_large_string(kinds[name])
    ]
    if text_field not in columns:
        raise DataError(f"'{file.path}' has no column '{text_field}'", _field_remedy(text_field, texts))
    if text_field not in texts:
        problem = f"'{file.path}': column '{text_field}' holds {kinds[text_field]}, not text"
        raise DataError(problem, _field_remedy(text_field, texts))


def _texts_of(record: dict[str, Any]) -> list[str]:
    return [name for name, value in record.items() if isinstance(value, str)]


def _field_remedy(text_field: str, texts: list[str]) -> str:
    """Which name to give instead, out of those that hold text."""
    if not texts:
        return "No other field or column there holds text."
    guess = nearest(text_field, texts)
    hint = f"Did you mean '{guess}'? " if guess else ""
    return f"{hint}Set text_field ({TEXT_FIELD_FLAGS}) to what holds the text, of: {', '.join(texts)}."


def document_id(given: object, otherwise: str) -> str:
    """A record's own id, a text or a whole number, or else ``otherwise``."""
    return str(given) if isinstance(given, str | int) and not isinstance(given, bool) and given != "" else otherwise


def _decoded(content: bytes, file: Named, offset: int) -> str:
    """UTF-8 as text, without the byte-order mark a file may open with; ``content`` begins at ``offset`` of the file."""
    start = len(_BOM) if offset == 0 and content.startswith(_BOM) else 0
    try:
        return content[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        place = offset + start + error.start
        value = content[start + error.start]
        raise Damaged(
            f"'{file.path}' is not UTF-8: byte {place:,} is 0x{value:02x}",
            f"Convert it, for example: iconv -f latin1 -t utf-8 '{file.path}'",
        ) from None


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
