"""llm.c's file format, read by its description alone: no function of the project in between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from letters import ByteTokenizer, documents, tiny_shards

from folio.errors import ArtifactError
from folio.shards import open_shards, write_shards
from folio.shards.format import UINT16, UINT32, dtype_for


def read_by_the_book(path: Path) -> np.ndarray:
    """As modded-nanogpt and llm.c do it: 256 int32, then the ids, nothing behind."""
    header = np.fromfile(path, dtype=np.int32, count=256)
    dtype = {(20240520, 1): np.uint16, (20240801, 7): np.uint32}[int(header[0]), int(header[1])]
    ids = np.fromfile(path, dtype=dtype, offset=1024)
    assert len(ids) == header[2]
    assert not header[3:].any()
    return ids


def test_files_are_llm_c_files_cut_at_exact_lengths(tmp_path: Path) -> None:
    tiny_shards(tmp_path / "s", train=1000, val=100, per_shard=300)
    files = sorted(path.name for path in (tmp_path / "s").glob("*.bin"))
    assert files == [*(f"train_00000{n}.bin" for n in range(4)), "val_000000.bin"]
    parts = [read_by_the_book(tmp_path / "s" / name) for name in files]
    assert [len(part) for part in parts] == [300, 300, 300, 100, 100]
    train = np.concatenate(parts[:4])
    assert train.dtype == np.uint16
    assert train[0] == 256
    assert np.array_equal(train[1:], np.arange(999) % 128)


def test_a_split_that_fills_its_last_file_exactly_has_no_empty_file(tmp_path: Path) -> None:
    shards = tiny_shards(tmp_path / "s", train=600, val=300, per_shard=300)
    assert len(shards.split("train").paths) == 2
    assert len(shards.split("val").paths) == 1


@pytest.mark.parametrize(("vocab_size", "dtype"), [(257, UINT16), (65_536, UINT16), (65_537, UINT32)])
def test_wide_vocabularies_get_uint32(tmp_path: Path, vocab_size: int, dtype: np.dtype) -> None:
    tokenizer = ByteTokenizer(vocab_size=vocab_size, eot_id=vocab_size - 1)
    shards = write_shards({"train": documents("ab", "c")}, tokenizer, tmp_path / "s", source={})
    assert dtype_for(vocab_size) == dtype == shards.split("train").dtype
    end = vocab_size - 1
    assert read_by_the_book(tmp_path / "s" / "train_000000.bin").tolist() == [end, 97, 98, end, 99]
    assert shards.split("train").read(0, 5).tolist() == [end, 97, 98, end, 99]


def write_plain(path: Path, ids: list[int], marks: tuple[int, int] = (20240520, 1)) -> None:
    header = np.zeros(256, dtype=np.int32)
    header[:3] = (*marks, len(ids))
    dtype = np.uint16 if marks[1] == 1 else np.uint32
    path.write_bytes(header.tobytes() + np.array(ids, dtype=dtype).tobytes())


@pytest.mark.parametrize("marks", [(20240520, 1), (20240801, 7)])
def test_files_that_others_made_open_without_a_manifest(tmp_path: Path, marks: tuple[int, int]) -> None:
    write_plain(tmp_path / "fineweb_train_000002.bin", [256, 99], marks)
    write_plain(tmp_path / "fineweb_train_000001.bin", [256, 97, 98], marks)
    write_plain(tmp_path / "tiny_val.bin", [256, 100], marks)
    shards = open_shards(tmp_path, ByteTokenizer())
    assert shards.split("train").read(0, 5).tolist() == [256, 97, 98, 256, 99]
    assert (shards.documents("train"), shards.text_bytes("train"), shards.tokens("val")) == (2, 3, 2)
    assert open_shards(tmp_path, vocab_size=257).vocab_size == 257
    with pytest.raises(ArtifactError, match=r"without a manifest"):
        open_shards(tmp_path)
