from __future__ import annotations

import gc
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from letters import ByteTokenizer, documents, many_documents, tiny_shards, words

from folio.artifacts import read_manifest, verify
from folio.corpus.document import Document
from folio.errors import ArtifactError, ConfigError, DataError
from folio.shards import ShardsConfig, WriteProgress, chunks, open_shards, pool, verify_shards, write_shards
from folio.shards.chunks import safe_pieces


@pytest.fixture(autouse=True)
def processes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' few documents are to reach the processes too."""
    monkeypatch.setattr(pool, "CHUNKS_BEFORE_PROCESSES", 1)


SMALL = ShardsConfig(tokens_per_shard=300, workers=1)


def hashes(folder: Path) -> dict[str, str]:
    return {name: record.sha256 for name, record in read_manifest(folder).files.items()}


def test_counts_and_manifest(tmp_path: Path) -> None:
    shards = write_shards(
        {"train": documents("abc", "é€", ""), "val": documents("x")}, ByteTokenizer(), tmp_path / "s", SMALL, source={}
    )
    assert (shards.tokens("train"), shards.documents("train"), shards.text_bytes("train")) == (11, 3, 8)
    assert shards.bytes_per_token("train") == 8 / 11
    assert (shards.tokens("val"), shards.documents("val"), shards.text_bytes("val")) == (2, 1, 1)
    assert shards.manifest.config["tokenizer"]["fingerprint"] == ByteTokenizer().fingerprint
    assert shards.vocab_size == 257
    assert str(tmp_path) not in (tmp_path / "s" / "manifest.json").read_text()
    verify(tmp_path / "s", "shards")  # the sums made while writing are those of the files
    assert not (tmp_path / "s.partial").exists()


def test_any_number_of_processes_gives_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for workers in (1, 2, 3):
        config = ShardsConfig(tokens_per_shard=700_001, workers=workers)
        train = {"train": lambda: many_documents(32), "val": documents("few")}
        write_shards(train, ByteTokenizer(), tmp_path / str(workers), config, source={})
        made.append((hashes(tmp_path / str(workers)), read_manifest(tmp_path / str(workers)).id))
    assert made[0] == made[1] == made[2]
    assert len(made[0][0]) == 12
    ids = np.concatenate(list(open_shards(tmp_path / "3").split("train").blocks()))
    text = b"".join(b"\x00" + document.text.encode() for document in many_documents(32))
    assert np.array_equal(np.where(ids == 256, 0, ids).astype(np.uint8), np.frombuffer(text, dtype=np.uint8))


def test_processes_that_encode_do_not_load_torch(tmp_path: Path) -> None:
    """The child imports what a worker imports; and the caller's script is not run again."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, pathlib; print('ran')\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from letters import ByteTokenizer, many_documents\n"
        "from folio.shards import ShardsConfig, pool, write_shards\n"
        "pool.CHUNKS_BEFORE_PROCESSES = 1\n"
        "write_shards({'train': lambda: many_documents(32)}, ByteTokenizer(),\n"
        f"    pathlib.Path({str(tmp_path / 's')!r}), ShardsConfig(workers=2), source={{}})\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "ran\n"
    check = "import sys; import folio.shards.worker; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_long_documents_are_cut_only_where_ids_stay_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(chunks, "PIECE_CHARACTERS", 1000)
    text = words(2000)
    pieces = list(safe_pieces(text, ByteTokenizer()))
    assert len(pieces) > 5
    assert "".join(pieces) == text
    assert all(before[-1].isalpha() and after[0] in " \n" and after[1].isalpha() for before, after in pairwise(pieces))
    assert list(safe_pieces(text, ByteTokenizer(prefix="_"))) == [text]  # a tokenizer that marks every beginning
    assert list(safe_pieces("x" * 9000, ByteTokenizer())) == ["x" * 9000]
    notes: list[WriteProgress] = []
    shards = write_shards(
        {"train": documents(text, "x" * 9000)},
        ByteTokenizer(),
        tmp_path / "s",
        SMALL,
        source={},
        on_progress=notes.append,
    )
    assert (shards.documents("train"), shards.text_bytes("train"), shards.tokens("train")) == (2, 21_000, 21_002)
    assert [note.note for note in notes if note.note] == [
        "document 'd1' has no safe place to cut: 9,000 characters in one piece"
    ]


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """Twenty times the text, the same peak: a few chunks, not the corpus."""

    def peak(count: int) -> int:
        gc.collect()
        tracemalloc.start()
        write_shards(
            {"train": lambda: many_documents(count, 20_000)},
            ByteTokenizer(),
            tmp_path / str(count),
            ShardsConfig(workers=2),
            source={},
        )
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    small, large = peak(60), peak(600)
    assert large < small + 8_000_000 < 72_000_000


def test_work_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    calls = []

    def train() -> Iterator[Document]:
        calls.append(1)
        yield Document("a", "text", "here")

    for _ in range(2):
        write_shards({"train": train}, ByteTokenizer(), tmp_path / "s", SMALL, source={"fingerprint": "f"})
    assert calls == [1]
    with pytest.raises(ArtifactError, match="already exists and holds something else"):
        write_shards({"train": train}, ByteTokenizer(), tmp_path / "s", SMALL, source={"fingerprint": "g"})


def test_folders_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    tiny_shards(tmp_path / "s")  # an empty folder is taken
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "thesis.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="already exists and holds something else"):
        tiny_shards(tmp_path / "t")
    (tmp_path / "u.partial").mkdir()
    (tmp_path / "u.partial" / "thesis.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="holds something else"):
        tiny_shards(tmp_path / "u")
    assert (tmp_path / "u.partial" / "thesis.txt").read_text() == "mine"


def test_an_empty_split_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the split 'val' has no documents"):
        write_shards({"train": documents("a"), "val": documents()}, ByteTokenizer(), tmp_path / "s", SMALL, source={})
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_without_end_of_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no end-of-text id"):
        write_shards({"train": documents("a")}, ByteTokenizer(eot_id=None), tmp_path / "s", SMALL, source={})


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_in_a_document_name_it(tmp_path: Path, workers: int) -> None:
    def with_half_a_character() -> Iterator[Document]:
        yield from many_documents(30)
        yield Document("broken", "\ud800", "here")

    with pytest.raises(DataError, match=r"document 'broken' is not Unicode text"):
        write_shards(
            {"train": with_half_a_character}, ByteTokenizer(), tmp_path / "s", ShardsConfig(workers=workers), source={}
        )


def test_a_file_that_vanishes_is_named_and_can_come_back(tmp_path: Path) -> None:
    late = tmp_path / "late.txt"

    def train() -> Iterator[Document]:
        yield Document("a", "text", "here")
        yield Document("b", late.read_text(), "there")

    with pytest.raises(DataError, match=r"late.txt' cannot be read: No such file"):
        write_shards({"train": train}, ByteTokenizer(), tmp_path / "s", SMALL, source={})
    late.write_text("back")
    assert write_shards({"train": train}, ByteTokenizer(), tmp_path / "s", SMALL, source={}).documents("train") == 2


def test_shards_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    tiny_shards(tmp_path / "s")
    open_shards(tmp_path / "s", ByteTokenizer())
    with pytest.raises(ArtifactError, match=r"made by another tokenizer \(byte, 257 ids\); this one is byte, 300 ids"):
        open_shards(tmp_path / "s", ByteTokenizer(vocab_size=300))
    with pytest.raises(ArtifactError, match="for 257 ids, not for 300"):
        open_shards(tmp_path / "s", vocab_size=300)


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no split 'test', only train, val"):
        tiny_shards(tmp_path / "s").split("test")


def test_progress_counts_up_to_the_manifest(tmp_path: Path) -> None:
    seen: list[WriteProgress] = []
    shards = write_shards(
        {"train": lambda: many_documents(8)}, ByteTokenizer(), tmp_path / "s", source={}, on_progress=seen.append
    )
    tokens = [progress.tokens for progress in seen]
    assert tokens == sorted(set(tokens))
    assert tokens[-1] == shards.tokens("train")
    assert seen[-1].text_bytes == shards.text_bytes("train")
    verify_shards(shards)
    assert json.loads((tmp_path / "s" / "manifest.json").read_text())["kind"] == "shards"
