"""The documents of one part, streamed.

Memory holds a batch of about ``BATCH_BYTES``, a page or two of the file, and the longest document a few times over; a
row group is never held whole, however large.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import IO, Any, NamedTuple, cast

from folio.corpus.cleaning import CleaningCounts, clean
from folio.corpus.document import Document
from folio.corpus.files import Damaged, unpacked
from folio.corpus.reading import check_column, document_id, records_in, text_in
from folio.corpus.sources.config import SourceConfig
from folio.corpus.sources.places import LocalPlace, Place, open_place, require_unchanged
from folio.corpus.sources.plan import Part, SourceChanged, SourceFile
from folio.corpus.sources.ranges import SummedReader, WrongSum
from folio.corpus.sources.retrying import Patience, Tell
from folio.errors import DataError, require

BATCH_BYTES = 4 << 20
"""Of text that is decoded at a time, by the average row of the row group."""
MOST_ROWS = 4096
TOGETHER_BYTES = 1 << 20
"""Of text that becomes strings at a time, and at most twice that."""
HELD_BYTES = 32 << 20
"""Row groups up to this size are tried out in memory when damaged ones are to be passed over; larger ones are read
twice."""
NEAR_BYTES, FAR_BYTES, FOOTER_BYTES = 1 << 20, 8 << 20, 64 << 10
"""Read at a time: from a column on disk; from one, or a packed file, over a network; behind a parquet file's end."""
SKIP = "pass over what is damaged: set damaged to skip (--damaged skip or --source.damaged skip)."
"""What may be done about anything damaged, in the words of Python, of ``corpus explore`` and of other commands."""


@dataclass(slots=True)
class PartCounts:
    """What became of the documents of one part or of several."""

    cleaning: CleaningCounts = field(default_factory=CleaningCounts)
    damaged: int = 0
    """Passed over: row groups, lines, or the rest of an archive that breaks off."""
    damaged_rows: int = 0
    """Rows of the row groups passed over."""

    def add(self, other: PartCounts) -> None:
        """Count what ``other`` counts as well."""
        self.damaged += other.damaged
        self.damaged_rows += other.damaged_rows
        for each in fields(CleaningCounts):
            total = getattr(self.cleaning, each.name) + getattr(other.cleaning, each.name)
            setattr(self.cleaning, each.name, total)


class Reading(NamedTuple):
    """One file that is read: what was planned, where it lies, and who hears of trouble on the way."""

    file: SourceFile
    place: Place
    config: SourceConfig
    patience: Patience
    tell: Tell

    @property
    def path(self) -> object:
        return self.place.path

    @property
    def name(self) -> str:
        return self.file.name

    def open(self, block_bytes: int) -> IO[bytes]:
        return open_place(self.place, self.file, self.patience, self.tell, block_bytes)

    def damage(self, part: Part, counts: PartCounts, fault: Damaged) -> None:
        """Count a fault and tell of it."""
        counts.damaged += 1
        counts.damaged_rows += (part.rows or 0) if self.file.kind == ".parquet" else 0
        self.tell(f"passed over: {fault.problem}")


class Footers:
    """The last few parquet footers that were read: parts of one file mostly come one after the other, and the footer
    of a file of many row groups may be as large as one of them."""

    KEPT = 2

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def of(self, reading: Reading) -> Any:
        """The footer (a ``pyarrow.parquet.FileMetaData``), its columns checked; :class:`DataError` if either fails."""
        key = (reading.file.name, reading.file.mark)
        if key not in self._kept:
            self._kept[key] = read_footer(reading)
            while len(self._kept) > self.KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def read_footer(reading: Reading) -> Any:
    """The footer of a parquet file; :class:`DataError` if it is damaged, or has no such column of text."""
    pyarrow: Any = require("pyarrow", "data")
    parquet: Any = require("pyarrow.parquet", "data")
    try:
        with reading.open(FOOTER_BYTES) as raw:
            footer = parquet.read_metadata(raw)
            schema = footer.schema.to_arrow_schema()
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(reading, error, "is damaged, or no parquet file", "Get the file again.") from None
    check_column(reading, reading.config.text_field, list(schema.names), schema, pyarrow)
    if reading.config.id_field not in schema.names and reading.config.id_field != "id":
        raise DataError(
            f"'{reading.path}' has no column '{reading.config.id_field}' to name its documents",
            f"Set id_field (--source.id-field) to one of: {', '.join(schema.names)}.",
        )
    return footer


def divided(file: SourceFile, footer: Any, columns: Iterable[str]) -> SourceFile:
    """``file`` with its row groups: rows, and the bytes of the ``columns`` that are read."""
    wanted = set(columns)
    places = [at for at in range(footer.num_columns) if footer.schema.column(at).path.split(".")[0] in wanted]
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    chunks = [[group.column(at) for at in places] for group in groups]
    return file.model_copy(
        update={
            "rows": tuple(group.num_rows for group in groups),
            "stored_bytes": tuple(sum(each.total_compressed_size for each in group) for group in chunks),
            "unpacked_bytes": tuple(sum(each.total_uncompressed_size for each in group) for group in chunks),
        }
    )


def documents_in(part: Part, reading: Reading, counts: PartCounts, footers: Footers) -> Iterator[Document]:
    """The cleaned documents of one part, in order; ``counts`` is filled on the way."""
    if part.mark != reading.file.mark:
        raise SourceChanged(f"part {part.id} belongs to another plan", "Begin anew with this one.")
    read = _rows if reading.file.kind == ".parquet" else _whole_file
    raw = read(part, reading, counts, footers)
    yield from clean(raw, counts.cleaning, nfc=reading.config.nfc, deduplicate=False)


def _whole_file(part: Part, reading: Reading, counts: PartCounts, footers: Footers) -> Iterator[Document]:
    file, config = reading.file, reading.config
    skip = config.damaged == "skip"
    with reading.open(FAR_BYTES) as raw:
        kind, _, value = file.mark.partition(":")
        summed = kind == "sha256" and not skip
        bare = SummedReader(raw, value, reading.path) if summed else raw
        packed = io.BufferedReader(cast(io.RawIOBase, bare), NEAR_BYTES)  # or lines would be read byte by byte
        try:
            with unpacked(packed, file.packing, reading.path) as stream:
                if file.kind == ".txt":
                    yield text_in(stream, reading)
                else:
                    note = (lambda fault: reading.damage(part, counts, fault)) if skip else None
                    yield from records_in(stream, reading, config.text_field, id_field=config.id_field, on_damage=note)
                if summed:
                    packed.read(1)  # a stream whose last bytes nobody wanted meets its end here
        except Damaged as fault:
            if not skip:
                raise _or_skip(fault) from None
            reading.damage(part, counts, fault)
        except OSError as error:
            raise DataError(f"'{reading.path}' cannot be read: {error.strerror or error}", "Check the file.") from None


def _rows(part: Part, reading: Reading, counts: PartCounts, footers: Footers) -> Iterator[Document]:
    assert part.rows is not None
    footer = footers.of(reading)
    parquet: Any = require("pyarrow.parquet", "data")
    names = set(footer.schema.to_arrow_schema().names)
    columns = [name for name in (reading.config.text_field, reading.config.id_field) if name in names]
    batch_rows = max(1, min(MOST_ROWS, BATCH_BYTES * part.rows // max(1, part.unpacked_bytes)))
    near = isinstance(reading.place, LocalPlace)
    if isinstance(reading.place, LocalPlace):
        require_unchanged(reading.place, reading.file)
    with reading.open(0) as source:
        table = parquet.ParquetFile(
            source,
            metadata=footer,
            buffer_size=NEAR_BYTES if near else FAR_BYTES,
            pre_buffer=False,
            page_checksum_verification=True,
        )

        def batches() -> Iterator[Any]:
            yield from table.iter_batches(
                batch_size=batch_rows, row_groups=[part.index], columns=columns, use_threads=False
            )

        if reading.config.damaged == "stop":
            yield from _documents(part, reading, batches())
            return
        try:
            held = list(_checked(part, reading, batches())) if part.unpacked_bytes <= HELD_BYTES else None
            if held is None:
                for _ in _checked(part, reading, batches()):
                    pass
        except Damaged as fault:
            reading.damage(part, counts, fault)
            return
        yield from _documents(part, reading, iter(held) if held is not None else batches())


def _documents(part: Part, reading: Reading, batches: Iterator[Any]) -> Iterator[Document]:
    config, row = reading.config, 0
    for batch in _undamaged(part, reading, batches):
        named = config.id_field in batch.schema.names
        try:
            names = batch.column(config.id_field).to_pylist() if named else [None] * batch.num_rows
            for name, text in zip(names, _texts(batch.column(config.text_field)), strict=True):
                yield Document(document_id(name, "") or f"{part.file}:{part.index}:{row}", text or "", part.file)
                row += 1
        except UnicodeDecodeError:
            raise _damage(part, reading, row, "text that is not UTF-8") from None


def _texts(column: Any) -> Iterator[str | None]:
    """The texts of a column, short ones together: that is quicker, and long ones would need memory together."""
    rows = max(1, TOGETHER_BYTES * len(column) // max(1, column.nbytes))
    for start in range(0, len(column), rows):
        few = column.slice(start, rows)
        together: list[str | None] | None = None
        if few.nbytes <= 2 * TOGETHER_BYTES:
            with suppress(UnicodeDecodeError):  # which is met again below, at its own row
                together = few.to_pylist()
        yield from (row.as_py() for row in few) if together is None else together


def _checked(part: Part, reading: Reading, batches: Iterator[Any]) -> Iterator[Any]:
    """The batches, each found to be sound: what is passed over is passed over whole."""
    pyarrow: Any = require("pyarrow", "data")
    row = 0
    for batch in _undamaged(part, reading, batches):
        try:
            batch.validate(full=True)
        except pyarrow.ArrowException as error:
            raise _damage(part, reading, row, str(error).splitlines()[0]) from None
        row += batch.num_rows
        yield batch


def _undamaged(part: Part, reading: Reading, batches: Iterator[Any]) -> Iterator[Any]:
    pyarrow: Any = require("pyarrow", "data")
    row = 0
    while True:
        try:
            batch = next(batches, None)
        except MemoryError:  # one of Arrow's own exceptions too, and no damage
            raise DataError(
                f"'{reading.path}', row group {part.index}: too little memory to read it from row {row:,} on",
                "Read with fewer workers, or leave out the document that is too long.",
            ) from None
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise DataError(f"'{reading.path}' cannot be read: {error.strerror}", "Check the file.") from None
            raise _damage(part, reading, row, (str(error).splitlines() or [""])[0]) from None
        if batch is None:
            break
        row += batch.num_rows
        yield batch
    if row != part.rows:
        raise _damage(part, reading, row, f"it should have {part.rows:,} rows")


def _damage(part: Part, reading: Reading, row: int, reason: str) -> Damaged:
    problem = f"'{reading.path}', row group {part.index}, is damaged from about row {row:,} on: {reason}"
    return _or_skip(Damaged(problem, "Get the file again."))


def _or_skip(fault: Damaged) -> Damaged:
    """With passing over as another remedy, but not for a wrong sha256: who passes over reads such a file unsummed."""
    if isinstance(fault, WrongSum):
        return fault
    return Damaged(fault.problem, f"{fault.remedy} Or {SKIP}")


def _unreadable(reading: Reading, error: Exception, otherwise: str, remedy: str) -> DataError:
    if isinstance(error, OSError) and error.errno is not None:
        return DataError(f"'{reading.path}' cannot be read: {error.strerror}", "Check the file.")
    return DataError(f"'{reading.path}' {otherwise}: {(str(error).splitlines() or [''])[0]}", remedy)
