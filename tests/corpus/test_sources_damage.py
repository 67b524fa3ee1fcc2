"""What is damaged, missing or of the wrong kind is told with its place, or passed over whole and counted."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sources_world import texts_of, write_parquet

from folio.corpus.sources import Part, PartCounts, Source, SourceConfig, open_source, parts, ranges
from folio.errors import DataError

PASS_OVER = "pass over what is damaged: set damaged to skip (--damaged skip or --source.damaged skip)."
FLAGS = "--text-field, --source.text-field or --corpus.text-field"


def damage_group(path: Path, group: int, text: str) -> None:
    """Change a letter of the page that holds ``text`` in a row group, leaving size and time."""
    before = path.stat()
    column = pq.read_metadata(path).row_group(group).column(0)
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    at = content.index(text.encode(), start)
    assert at < start + column.total_compressed_size
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def damaged(tmp_path: Path) -> Callable[[str], Source]:
    """``damaged("skip")``: a source of three row groups with checksums of pages, the middle one damaged at its end."""
    path = tmp_path / "a.parquet"
    settings: dict[str, Any] = {"compression": "none", "write_page_checksum": True, "use_dictionary": False}
    write_parquet(path, [f"{number:03d} " * 2000 for number in range(90)], 30, data_page_size=16384, **settings)
    damage_group(path, 1, "059 " * 100)

    def opened(choice: str) -> Source:
        return open_source(SourceConfig(path=str(path), damaged=choice))  # type: ignore[arg-type]

    return opened


def test_a_damaged_row_group_stops_and_is_named(damaged: Callable[[str], Source]) -> None:
    with pytest.raises(DataError, match=r"a\.parquet', row group 1, is damaged .*(?:CRC|crc)") as caught:
        texts_of(damaged("stop"))
    assert "\n" not in caught.value.problem
    assert caught.value.remedy == f"Get the file again. Or {PASS_OVER}"


@pytest.mark.parametrize("held_bytes", [parts.HELD_BYTES, 0], ids=["held", "read twice"])
def test_a_damaged_row_group_is_passed_over_whole(
    damaged: Callable[[str], Source], held_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "HELD_BYTES", held_bytes)
    monkeypatch.setattr(parts, "BATCH_BYTES", 20_000)
    source, told, counts = damaged("skip"), list[str](), PartCounts()
    read = [d.text[:3] for part in source.parts() for d in source.documents(part, counts, told.append)]
    assert read == [f"{number:03d}" for number in (*range(30), *range(60, 90))]
    assert (counts.damaged, counts.damaged_rows, counts.cleaning.kept) == (1, 30, 60)
    assert len(told) == 1
    assert "row group 1" in told[0]


def test_bytes_that_are_no_text_are_damage(tmp_path: Path) -> None:
    text = pa.array([b"fine", b"caf\xe9"], pa.binary()).cast(pa.string(), safe=False)
    pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet")
    source = open_source(str(tmp_path))
    documents = source.documents(source.plan.part(0))
    assert next(documents).text == "fine"
    with pytest.raises(DataError, match="row group 0, is damaged from about row 1 on: text that is not UTF-8"):
        next(documents)
    source, counts = open_source(SourceConfig(path=str(tmp_path), damaged="skip")), PartCounts()
    assert list(source.documents(source.plan.part(0), counts)) == []
    assert counts.damaged_rows == 2


@pytest.mark.parametrize(
    ("columns", "field", "said"),
    [
        ({"txet": ["a"]}, "text", r"has no column 'text'\n.*Did you mean 'txet'\?"),
        ({"text": [1]}, "text", r"column 'text' holds int64, not text"),
        ({"text": [["a"]], "body": ["a"]}, "text", r"column 'text' holds list"),
    ],
)
def test_a_column_that_will_not_do_is_told_before_anything_is_read(
    tmp_path: Path, columns: dict[str, Any], field: str, said: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=said):
        open_source(SourceConfig(path=str(tmp_path), text_field=field, damaged="skip"))


@pytest.mark.parametrize(
    ("columns", "remedy"),
    [
        ({"text": [1]}, "No other field or column there holds text."),
        ({"text": [1], "number": [2]}, "No other field or column there holds text."),
        ({"txet": ["a"], "n": [1]}, f"Did you mean 'txet'? Set text_field ({FLAGS}) to what holds the text, of: txet."),
        ({"text": [1], "b": ["x"], "c": ["y"]}, f"Set text_field ({FLAGS}) to what holds the text, of: b, c."),
    ],
)
def test_only_what_holds_text_is_offered_instead_of_a_wrong_field(
    tmp_path: Path, columns: dict[str, list[Any]], remedy: str
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({name: values[0] for name, values in columns.items()}))
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        with pytest.raises(DataError) as caught:
            texts_of(open_source(str(tmp_path / name)))
        assert caught.value.remedy == remedy


def test_an_id_column_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ["a"])
    with pytest.raises(DataError, match="no column 'url'"):
        open_source(SourceConfig(path=str(tmp_path), id_field="url"))
    write_parquet(tmp_path / "a.parquet", ["a"], ids=["mine"])
    source = open_source(str(tmp_path))
    assert next(source.documents(source.plan.part(0))).id == "mine"


@pytest.mark.parametrize("content", [b"", b"no parquet at all", b"PAR1" + bytes(50) + b"PAR1"])
def test_what_is_no_parquet_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet' is damaged, or no parquet file"):
        open_source(str(tmp_path))


LINES = b'{"text": "one"}\n{"text": "tw\n{"text": "\xff"}\n["no"]\n{"text": "five"}\n'


def test_damaged_lines_stop_or_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    with pytest.raises(DataError, match="line 2 is not JSON") as caught:
        texts_of(open_source(str(tmp_path)))
    assert caught.value.remedy == f"Mend or remove the line. Or {PASS_OVER}"
    source, counts = open_source(SourceConfig(path=str(tmp_path), damaged="skip")), PartCounts()
    assert [d.text for d in source.documents(source.plan.part(0), counts)] == ["one", "five"]
    assert (counts.damaged, counts.damaged_rows) == (3, 0)


def test_a_wrong_field_is_never_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "one"}\n')
    with pytest.raises(DataError, match="has no field 'text'"):
        texts_of(open_source(SourceConfig(path=str(tmp_path), damaged="skip")))


def test_an_archive_that_breaks_off_stops_or_gives_what_stands_before(tmp_path: Path) -> None:
    lines = b"".join(json.dumps({"text": hashlib.sha256(bytes([n])).hexdigest()}).encode() + b"\n" for n in range(250))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines)[:-3000])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz' is damaged"):
        texts_of(open_source(str(tmp_path)))
    source = open_source(SourceConfig(path=str(tmp_path), damaged="skip"))
    counts, again = PartCounts(), PartCounts()
    first = list(source.documents(source.plan.part(0), counts))
    assert first == list(source.documents(source.plan.part(0), again))
    assert 100 < len(first) < 250
    assert counts.damaged == again.damaged == 1


def test_a_whole_file_is_compared_with_its_sha256(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two"}\n')
    source = open_source(str(tmp_path))
    before = path.stat()
    path.write_text('{"text": "one"}\n{"text": "ten"}\n')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a disk that lost a bit would leave it
    with pytest.raises(DataError, match="its sha256 is not the one") as caught:
        texts_of(source)
    assert caught.value.remedy == "Get it again."  # passing over reads it all without a sum


def test_a_part_of_another_plan_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ["a"])
    source = open_source(str(tmp_path))
    part = source.plan.part(0)
    other = Part(0, part.file, 0, 1, part.bytes, part.unpacked_bytes, "sha256:0")
    with pytest.raises(DataError, match="belongs to another plan"):
        list(source.documents(other))


def test_a_file_is_read_in_blocks_and_not_byte_by_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "line"}\n' * 1000)
    calls: list[int] = []
    real = ranges.SummedReader.readinto
    monkeypatch.setattr(ranges.SummedReader, "readinto", lambda self, into: calls.append(len(into)) or real(self, into))
    assert len(texts_of(open_source(str(tmp_path)))) == 1000
    assert len(calls) < 5
