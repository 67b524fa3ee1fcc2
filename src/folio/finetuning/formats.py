"""Examples as files hold them, read into records of one of five formats.

==========  ================================  =====================================================
format      fields of a record                in files
==========  ================================  =====================================================
text        text                              .jsonl, .parquet; blocks or the whole of a .txt
completion  prompt, completion                .jsonl, .parquet
chat        messages                          .jsonl, .parquet
alpaca      instruction, input, output        .jsonl, .parquet
preference  prompt, chosen, rejected          .jsonl, .parquet
==========  ================================  =====================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from folio.corpus.files import TextFile, find_files
from folio.errors import DataError, nearest
from folio.evaluation.tasks.records import read_records
from folio.finetuning.config_data import DataConfig, Format
from folio.finetuning.delimited import blocks, closing_of, first_mark, read_text
from folio.finetuning.fields import messages_of, surrogate_free, text_of
from folio.finetuning.preference.fields import preference_of

FIELDS: dict[Format, tuple[str, ...]] = {
    "preference": ("chosen", "rejected"),
    "chat": ("messages",),
    "completion": ("prompt", "completion"),
    "alpaca": ("instruction", "output"),
    "text": ("text",),
}
"""What a record of each format must have; the first format of this order that fits the first record is taken."""


@dataclass(frozen=True, slots=True)
class Record:
    """One document: its ``id``, ``where`` it stands (file and line, for errors), its format, its checked fields."""

    id: str
    where: str
    format: Format
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Records:
    """All records of one place, in order, and how their format was found, in words."""

    format: Format
    records: tuple[Record, ...]
    stated: str


def read_examples(given: str, config: DataConfig) -> Records:
    """The records of a file, folder or glob; ``config`` names the format and delimiters, or leaves them to be found.

    A record's own ``id`` names it; without one the file's name and its line or row, from 1. :class:`DataError`, with
    file and line, for what is unreadable, of another format than the first record, or not as its format asks.
    """
    reader = _Reader(config)
    records = tuple(record for file in find_files(given) for record in reader.records(file))
    if not records or reader.format is None:
        raise DataError(f"'{given}' holds no examples", "Give a file with at least one.")
    return Records(reader.format, records, reader.stated)


def format_of(given: str, config: DataConfig) -> Format:
    """The format of the first record of a file, folder or glob."""
    reader = _Reader(config)
    for file in find_files(given):
        for record in reader.records(file):
            return record.format
    raise DataError(f"'{given}' holds no examples", "Give a file with at least one.")


class _Reader:
    """Reads file after file; the first record decides the format of all."""

    def __init__(self, config: DataConfig) -> None:
        self._config = config
        named = config.format
        self.format: Format | None = None if named == "auto" else "text" if named == "delimited" else named
        self.stated = "" if named == "auto" else f"{named}, as given"
        self._first = "the format given"

    def records(self, file: TextFile) -> Iterator[Record]:
        if file.kind == ".txt":
            yield from self._of_text(file)
            return
        if self._config.format == "delimited" or self._config.opening is not None:
            raise DataError(f"'{file.path}' is no .txt, so it has no delimiters", "Leave format and opening out.")
        unit = "row" if file.kind == ".parquet" else "line"
        for number, fields in read_records(file.path, "fine-tuning", None):
            where = f"'{file.path}', {unit} {number:,}"
            self._settle(_format_of(fields, where) if self.format is None else self.format, where)
            checked = self._checked(fields, where)
            name = fields.get("id")
            own = isinstance(name, str | int) and not isinstance(name, bool) and name != ""
            yield Record(str(name) if own else f"{file.name}:{number}", where, self._settled(), checked)

    def _of_text(self, file: TextFile) -> Iterator[Record]:
        """The blocks of a .txt; all of it if it has none."""
        text = read_text(file)
        config = self._config
        opening = config.opening
        if opening is None and config.format in ("auto", "delimited"):
            opening = first_mark(text)
        if opening is None and config.format == "delimited":
            raise DataError(
                f"'{file.path}' does not begin with a mark in angle brackets", "Give the opening and closing marks."
            )
        where = f"'{file.path}', line 1"
        if self.format not in (None, "text"):
            raise DataError(f"{where}: a .txt holds text, not {self.format} records", _mixed_remedy(self._first))
        if opening is None:
            self._settle("text", where, "text, each .txt a document")
            if text.strip():
                yield Record(file.name, where, "text", {"text": surrogate_free(text.strip(), where)})
            return
        closing = config.closing or closing_of(opening)
        self._settle("text", where, f"text in blocks {opening}...{closing}")
        on_line = Counter[int]()
        for line, block in blocks(text, opening, closing, str(file.path)):
            on_line[line] += 1
            place = f"{line}.{on_line[line]}" if on_line[line] > 1 else f"{line}"
            yield Record(f"{file.name}:{place}", f"'{file.path}', line {line:,}", "text", {"text": block})

    def _settle(self, format: Format, where: str, stated: str = "") -> None:
        if self.format is None:
            self.format, self._first = format, f"that of {where}"
            self.stated = stated or f"{format}, as the first record has {' and '.join(FIELDS[format])}"

    def _settled(self) -> Format:
        assert self.format is not None
        return self.format

    def _checked(self, fields: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The fields of the format, as text. :class:`DataError` for one that is missing or of another kind."""
        format = self._settled()
        for name in FIELDS[format]:
            if name not in fields:
                others = [other for other, needed in FIELDS.items() if all(one in fields for one in needed)]
                looks = f"; it looks like {others[0]}, the first like {format}" if others else ""
                hint = f"Did you mean '{guess}'? " if (guess := nearest(name, fields)) else ""
                raise DataError(f"{where} has no field '{name}'{looks}", f"{hint}{_mixed_remedy(self._first)}")
        if format == "preference":
            return preference_of(fields, where)
        if format == "chat":
            return {"messages": messages_of(fields["messages"], where)}
        names = (*FIELDS[format], "input") if format == "alpaca" else FIELDS[format]
        return {name: text_of(fields.get(name), name, where, optional=name == "input") for name in names}


def _mixed_remedy(first: str) -> str:
    return f"One format is read at a time, here {first}; mend the record or put it elsewhere."


def _format_of(fields: Mapping[str, Any], where: str) -> Format:
    for format, needed in FIELDS.items():
        if all(name in fields for name in needed):
            return format
    raise DataError(
        f"{where} is of no format known here: it has {', '.join(map(str, fields)) or 'no fields'}",
        "Known are: " + "; ".join(f"{format} ({', '.join(needed)})" for format, needed in FIELDS.items()) + ".",
    )


assert set(FIELDS) == set(get_args(Format))
