"""Every kind of file becomes records that keep their ids, and every fault is found with its file and line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from folio.config import build
from folio.errors import ConfigError, DataError
from folio.finetuning.config_data import DataConfig
from folio.finetuning.formats import Records, read_examples

CHAT = {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Romeo."}]}
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "text": [{"text": "one"}, {"id": "second", "text": "two"}],
    "completion": [{"prompt": "a", "completion": " b"}, {"id": 7, "prompt": "", "completion": " d"}],
    "chat": [CHAT, {"id": "x", **CHAT}],
    "alpaca": [{"instruction": "add", "input": "1 2", "output": "3"}, {"instruction": "hi", "output": "hello"}],
}


def read(path: Path, **options: Any) -> Records:
    return read_examples(str(path), build(DataConfig, {"path": str(path), **options}))


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def problem(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(path, **options)
    assert caught.value.remedy
    return caught.value.problem.replace(str(path), path.name)


@pytest.mark.parametrize("format", EXAMPLES)
def test_the_first_record_tells_the_format_and_it_is_stated(tmp_path: Path, format: str) -> None:
    found = read(write(tmp_path / "a.jsonl", *EXAMPLES[format]))
    assert found.format == format
    assert found.stated.startswith(f"{format}, as the first record has ")
    assert {record.format for record in found.records} == {format}
    named = read(tmp_path / "a.jsonl", format=format)
    assert named.records == found.records
    assert named.stated == f"{format}, as given"


@pytest.mark.parametrize("format", EXAMPLES)
def test_parquet_gives_the_same_records(tmp_path: Path, format: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{key: value for key, value in row.items() if key != "id"} for row in EXAMPLES[format]]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    theirs = read(tmp_path / "a.parquet").records
    ours = read(write(tmp_path / "a.jsonl", *rows)).records
    assert [record.fields for record in theirs] == [record.fields for record in ours]
    assert theirs[1].where.endswith("a.parquet', row 2")


def test_records_keep_their_own_id_and_get_one_by_line(tmp_path: Path) -> None:
    records = read(write(tmp_path / "a.jsonl", {"text": "x"}, "", {"text": "y"}, {"text": "z", "id": "own"})).records
    assert [record.id for record in records] == ["a.jsonl:1", "a.jsonl:3", "own"]


def test_packed_files_and_folders_are_read(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "two"}\n'))
    write(tmp_path / "a.jsonl", {"text": "one"})
    assert [record.fields["text"] for record in read(tmp_path).records] == ["one", "two"]


def test_blocks_are_found_by_the_mark_that_the_file_begins_with(tmp_path: Path) -> None:
    text = "\n<LOC>\nA hill.\n\nA <b>bold</b> well.\n</LOC>\n\n<LOC>A sea.</LOC><LOC>\nA bog.\n</LOC>\n"
    (tmp_path / "a.txt").write_text(text)
    found = read(tmp_path / "a.txt")
    assert [record.fields["text"] for record in found.records] == [
        *("A hill.\n\nA <b>bold</b> well.", "A sea.", "A bog.")
    ]
    assert [record.id for record in found.records] == ["a.txt:2", "a.txt:8", "a.txt:8.2"]
    assert found.stated == "text in blocks <LOC>...</LOC>"


def test_delimiters_can_be_set(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("BEGIN x END\nBEGIN <y> END")
    found = read(tmp_path / "a.txt", opening="BEGIN", closing="END")
    assert [record.fields["text"] for record in found.records] == ["x", "<y>"]
    (tmp_path / "b.txt").write_text("<A>x</A>")
    assert read(tmp_path / "b.txt", opening="<A>").records[0].fields["text"] == "x"


def test_a_txt_without_delimiters_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("All of it.\n<p>\n")
    assert [record.fields["text"] for record in read(tmp_path / "a.txt").records] == ["All of it.\n<p>"]
    assert "does not begin with a mark" in problem(tmp_path / "a.txt", format="delimited")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<L>\na\n</L>\n\n<L>\nb\n", "'a.txt', line 5: <L> is not closed before the file ends"),
        ("<L>\na\n<L>\nb\n</L>\n", "'a.txt', line 1: <L> is not closed before the next <L> stands in line 3"),
        ("<L>\na\n</L>\nb\n</L>\n", "'a.txt', line 4: 'b' stands outside of <L>...</L>"),
        ("<L>\na\n</L>\n</L>\n", "'a.txt', line 4: </L> closes nothing"),
        ("<L>a</L>\n\nb c", "'a.txt', line 3: 'b c' stands outside of <L>...</L>"),
    ],
)
def test_faults_of_blocks_are_found_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert problem(tmp_path / "a.txt") == said


def turn(role: Any = "user", content: Any = "x", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content, **more}]}


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (CHAT, "'a.jsonl', line 2 has no field 'prompt'; it looks like chat, the first like completion"),
        ({"prompt": "x"}, "'a.jsonl', line 2 has no field 'completion'"),
        ({"prompt": "x", "completion": None}, "'a.jsonl', line 2: 'completion' is null, not text"),
        ({"prompt": 3, "completion": "x"}, "'a.jsonl', line 2: 'prompt' is int, not text"),
        ('{"prompt": "\\ud800", "completion": "x"}', "'a.jsonl', line 2 holds half a surrogate pair, which is no text"),
        ("[1]", "'a.jsonl', line 2 holds list, not an object"),
    ],
)
def test_a_record_unlike_the_first_is_refused_with_file_and_line(tmp_path: Path, second: object, said: str) -> None:
    assert problem(write(tmp_path / "a.jsonl", {"prompt": "p", "completion": "c"}, second)) == said


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (turn("asistant"), "'a.jsonl', line 2, turn 1: the role 'asistant' is not known"),
        (turn(content=None), "'a.jsonl', line 2, turn 1: 'content' is null, not text"),
        (turn(content=[{"type": "text"}]), "'a.jsonl', line 2, turn 1: 'content' is list, not text"),
        (turn(tool_calls=[1]), "'a.jsonl', line 2, turn 1 has 'tool_calls', which is not learned here"),
        ({"messages": [{"content": "x"}]}, "'a.jsonl', line 2, turn 1 has no role"),
        ({"messages": []}, "'a.jsonl', line 2: 'messages' is not a list of turns"),
        ({"messages": "hi"}, "'a.jsonl', line 2: 'messages' is not a list of turns"),
    ],
)
def test_a_faulty_conversation_is_refused_with_file_and_line(tmp_path: Path, second: object, said: str) -> None:
    assert problem(write(tmp_path / "a.jsonl", CHAT, second)) == said


def test_what_is_of_no_known_format_is_refused(tmp_path: Path) -> None:
    assert "line 1 is of no format known here: it has question" in problem(
        write(tmp_path / "a.jsonl", {"question": "x"})
    )
    assert "holds no examples" in problem(write(tmp_path / "b.jsonl", ""))
    assert "is no .txt" in problem(tmp_path / "a.jsonl", opening="<A>")


def test_kinds_of_files_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", CHAT)
    (tmp_path / "b.txt").write_text("text")
    with pytest.raises(DataError, match=r"b\.txt', line 1: a \.txt holds text, not chat records"):
        read(tmp_path)


def test_a_txt_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\nthr\xe9e")
    assert problem(tmp_path / "a.txt") == "'a.txt', line 3 is not UTF-8: a byte is 0xe9"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"closing": "</A>"}, "closing is given without opening"),
        ({"opening": "--", "closing": "--"}, "the same"),
        ({"opening": "<A>", "format": "chat"}, "opening belongs to format 'delimited'"),
        ({"validation_fraction": 0.6, "test_fraction": 0.5}, "leaves nothing"),
        ({"format": "chta"}, "did you mean 'chat'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(DataConfig, {"path": "a.txt", **options})


def test_the_fantasy_locations_are_a_thousand_blocks(shared_data: Callable[[str], Path]) -> None:
    records = read(shared_data("fantasy_locations.txt")).records
    assert len({record.fields["text"] for record in records}) == len({record.id for record in records}) == 1000
    assert all("LOC>" not in record.fields["text"] for record in records)
