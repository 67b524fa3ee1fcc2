"""A source is an ordered list of parts that depends on its files alone; a change to them is noticed in one line."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from sources_world import texts_of, write_parquet

from folio.corpus import CorpusConfig, Document, open_corpus
from folio.corpus.sources import (
    ByHash,
    FirstParts,
    PartCounts,
    Plan,
    SourceChanged,
    SourceConfig,
    first_file,
    open_source,
    parts,
)
from folio.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two parquet files of three and one row groups, and JSON lines between them."""
    root = tmp_path / "texts"
    write_parquet(root / "a.parquet", ["a0", "a1", "a2", None, " \n", "a5\r\nb"], ids=[10, 11, 12, 13, 14, 15])
    write_parquet(root / "c" / "c.parquet", ["c0"])
    (root / "b.jsonl").write_text('{"text": "b0"}\n\n{"text": "b1", "id": "own"}\n')
    return root


def test_parts_are_row_groups_and_whole_files_in_order(folder: Path) -> None:
    source = open_source(str(folder))
    parts = list(source.parts())
    assert [part.id for part in parts] == ["a.parquet:0", "a.parquet:1", "a.parquet:2", "b.jsonl:0", "c/c.parquet:0"]
    assert [part.number for part in parts] == list(range(5))
    assert len(source.plan) == 5
    assert [part.rows for part in parts] == [2, 2, 2, None, 1]
    assert all(0 < part.bytes < 1000 for part in parts)
    assert [source.plan.part(number) for number in range(5)] == parts
    assert texts_of(source) == ["a0", "a1", "a2", "a5\nb", "b0", "b1", "c0"]


def test_documents_are_named_by_their_own_id_or_by_place(folder: Path) -> None:
    source = open_source(str(folder))
    names = [document.id for part in source.parts() for document in source.documents(part)]
    assert names == ["10", "11", "12", "15", "b.jsonl:1", "own", "c/c.parquet:0:0"]
    assert next(source.documents(source.plan.part(4))).source == "c/c.parquet"


def test_empty_documents_are_counted(folder: Path) -> None:
    source, total = open_source(str(folder)), PartCounts()
    for part in source.parts():
        counts = PartCounts()
        list(source.documents(part, counts))
        total.add(counts)
    assert (total.cleaning.kept, total.cleaning.empty, total.cleaning.newlines_normalized) == (7, 2, 1)


@pytest.mark.parametrize("together_bytes", [1, 300, parts.TOGETHER_BYTES])
def test_documents_are_the_same_however_many_are_decoded_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together_bytes: int
) -> None:
    texts = ["a", None, "é", "b" * 500, "", "c" * 90, None, "d", "long " * 40, "e"] * 3
    names = [None if number % 4 == 1 else f"n{number}" for number in range(30)]
    write_parquet(tmp_path / "a.parquet", texts, 30, ids=names)
    monkeypatch.setattr(parts, "TOGETHER_BYTES", together_bytes)
    monkeypatch.setattr(parts, "BATCH_BYTES", 2000)
    source = open_source(str(tmp_path))
    read = [(document.id, document.text) for document in source.documents(source.plan.part(0))]
    expected = [(name or f"a.parquet:0:{row}", text) for row, (name, text) in enumerate(zip(names, texts, strict=True))]
    assert read == [(name, text) for name, text in expected if text]


def test_parts_may_be_read_in_any_order_and_elsewhere(folder: Path) -> None:
    source = open_source(str(folder))
    elsewhere = pickle.loads(pickle.dumps(source))
    backwards = [list(elsewhere.documents(part)) for part in reversed(list(source.parts()))]
    assert backwards[::-1] == [list(source.documents(part)) for part in source.parts()]


def test_describe_says_what_it_is(folder: Path) -> None:
    about = open_source(str(folder)).describe()
    assert (about["files"], about["parts"], about["rows"]) == (3, 5, None)
    assert str(folder) in about["from"]
    assert open_source(str(folder / "*.parquet")).describe()["rows"] == 6


def test_fingerprint_is_that_of_content_and_settings(folder: Path, tmp_path: Path) -> None:
    print_here = open_source(str(folder)).fingerprint
    os.rename(folder, tmp_path / "moved")
    os.utime(tmp_path / "moved" / "b.jsonl", (0, 0))
    assert open_source(str(tmp_path / "moved")).fingerprint == print_here
    nfc = SourceConfig(path=str(tmp_path / "moved"), nfc=True)
    assert open_source(nfc).fingerprint != print_here
    content = (tmp_path / "moved" / "b.jsonl").read_text()
    (tmp_path / "moved" / "b.jsonl").write_text(content.replace("b0", "B0"))
    assert open_source(str(tmp_path / "moved")).fingerprint != print_here


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "b.jsonl").write_text('{"text": "longer"}\n'), r"'b\.jsonl' had 44 bytes and has 19"),
        (lambda root: (root / "b.jsonl").rename(root / "bb.jsonl"), r"'b\.jsonl' is gone \('bb\.jsonl' is new\)"),
        (lambda root: (root / "d.txt").write_text("new"), r"'d\.txt' is new"),
        (lambda root: (root / "b.jsonl").write_text('{"text": "b0"}\n\n{"text": "b2", "id": "own"}\n'), "had mark"),
    ],
)
def test_a_source_that_changed_is_told_in_one_line(folder: Path, change: object, said: str) -> None:
    stored = Plan.model_validate_json(open_source(str(folder)).plan.model_dump_json())
    open_source(str(folder)).plan.check(stored)
    change(folder)  # type: ignore[operator]
    with pytest.raises(SourceChanged, match=said) as caught:
        open_source(str(folder)).plan.check(stored)
    assert "\n" not in caught.value.problem


def test_other_settings_are_told_by_name(folder: Path) -> None:
    stored = open_source(str(folder)).plan
    with pytest.raises(SourceChanged, match="damaged was 'stop' and is 'skip'"):
        open_source(SourceConfig(path=str(folder), damaged="skip")).plan.check(stored)


def test_a_plan_holds_no_place(folder: Path) -> None:
    assert str(folder) not in open_source(str(folder)).plan.model_dump_json()


def test_a_file_that_changes_after_planning_is_not_read(folder: Path) -> None:
    source = open_source(str(folder))
    for name in ("b.jsonl", "c/c.parquet"):
        (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    for number in (3, 4):
        with pytest.raises(SourceChanged, match="bytes then"):
            list(source.documents(source.plan.part(number)))


def test_a_file_summed_before_is_not_summed_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = open_source(str(folder)).plan
    (folder / "d.txt").write_text("new")
    summed: list[str] = []
    real = open_source.__globals__["sha256_of"]
    monkeypatch.setitem(open_source.__globals__, "sha256_of", lambda path: summed.append(path.name) or real(path))
    assert open_source(str(folder), known=known).plan.files[0] == known.files[0]
    assert summed == ["d.txt"]
    (folder / "b.jsonl").write_text('{"text": "b0"}\n\n{"text": "b2", "id": "own"}\n')
    assert open_source(str(folder), known=known).plan.files[1].mark != known.files[1].mark


def test_without_checksums_size_and_time_are_the_mark(folder: Path) -> None:
    plan = open_source(SourceConfig(path=str(folder), checksums=False)).plan
    assert all(file.mark == f"modified:{file.modified_ns}" for file in plan.files)


def test_split_by_hash_is_the_corpus_rule(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(200)]
    write_parquet(tmp_path / "a.parquet", texts, rows_per_group=30)
    source = open_source(str(tmp_path))
    rule = ByHash(0.3)
    held = [d.text for part in source.parts() for d in source.documents(part) if rule.side(part, d) == "val"]
    corpus = open_corpus(CorpusConfig(path=str(tmp_path), split="hash", validation_fraction=0.3))
    assert held == [document.text for document in corpus.documents("val")]
    assert 40 < len(held) < 80


def test_first_file_is_held_out_whole(folder: Path) -> None:
    source = open_source(str(folder))
    rule = first_file(source.plan)
    assert rule == FirstParts(3)
    sides = {part.file: rule.side(part, Document("x", "x", "x")) for part in source.parts()}
    assert sides == {"a.parquet": "val", "b.jsonl": "train", "c/c.parquet": "train"}
    with pytest.raises(DataError, match="no second"):
        first_file(open_source(str(folder / "a.parquet")).plan)


def test_a_source_of_nothing_is_told(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [])
    with pytest.raises(DataError, match="no rows in any of its 1 files"):
        open_source(str(tmp_path))
    with pytest.raises(DataError, match="does not exist"):
        open_source(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="is no hub dataset"):
        open_source(SourceConfig(path=str(tmp_path), configuration="x"))
    with pytest.raises(DataError, match="no kind of store is called 'nostore://'"):
        open_source("nostore://a/b.parquet")
