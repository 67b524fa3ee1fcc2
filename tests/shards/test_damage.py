"""No damaged byte goes unnoticed: sizes when opening, everything when verifying."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from letters import tiny_shards

from folio.errors import ArtifactError
from folio.shards import open_shards, verify_shards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_shards(tmp_path / "s").path


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_any_flipped_bit_in_any_file_is_found(folder: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    verify_shards(open_shards(folder))
    for file in sorted(folder.iterdir()):
        bits = random.choice(file.stat().st_size * 8, size=60, replace=False)
        for bit in bits:
            copy = tmp_path / "copy"
            shutil.copytree(folder, copy)
            flip(copy / file.name, int(bit))
            with pytest.raises(ArtifactError, match=file.name if file.suffix == ".bin" else ".") as caught:
                verify_shards(open_shards(copy, verify=False))
            assert "\n" not in caught.value.problem
            shutil.rmtree(copy)


def test_every_damaged_file_is_named(folder: Path) -> None:
    flip(folder / "train_000001.bin", 9000)
    flip(folder / "val_000000.bin", 9000)
    with pytest.raises(ArtifactError, match=r"train_000001\.bin' is damaged: its sha256.*val_000000\.bin' is damaged"):
        verify_shards(open_shards(folder, verify=False))


@pytest.mark.parametrize("size", [0, 100, 1023, 1024, 1600, 1623, 1625, 2000])
def test_opening_notices_any_wrong_size(folder: Path, size: int) -> None:
    os.truncate(folder / "train_000001.bin", size)
    with pytest.raises(ArtifactError, match=r"train_000001\.bin' is damaged") as caught:
        open_shards(folder)
    assert "\n" not in caught.value.problem


def test_a_file_that_is_another_whole_shard_is_noticed(folder: Path) -> None:
    shutil.copy(folder / "train_000003.bin", folder / "train_000001.bin")
    with pytest.raises(ArtifactError, match=r"train_000001\.bin' is damaged: 1,224 bytes .* says 1,624"):
        open_shards(folder)


def test_a_missing_file_and_a_missing_folder_are_named(folder: Path) -> None:
    (folder / "train_000002.bin").unlink()
    with pytest.raises(ArtifactError, match=r"train_000002\.bin' cannot be read: No such file"):
        open_shards(folder)
    with pytest.raises(ArtifactError, match="does not exist"):
        open_shards(folder / "nowhere")


def test_ids_beyond_the_vocabulary_are_found(tmp_path: Path) -> None:
    header = np.zeros(256, dtype=np.int32)
    header[:3] = (20240520, 1, 3)
    (tmp_path / "train.bin").write_bytes(header.tobytes() + np.array([1, 300, 2], dtype=np.uint16).tobytes())
    shards = open_shards(tmp_path, vocab_size=257)
    with pytest.raises(ArtifactError, match=r"train\.bin' is damaged: it holds id 300, where the vocabulary has 257"):
        verify_shards(shards)


def test_opening_compares_every_byte_unless_told_not_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    open_shards(folder, on_progress=read.append)
    assert read[-1] == sum(file.stat().st_size for file in folder.glob("*.bin"))
    flip(folder / "train_000001.bin", 9000)
    flip(folder / "val_000000.bin", 9000)
    with pytest.raises(ArtifactError, match=r"train_000001\.bin' is damaged: its sha256.*val_000000\.bin' is damaged"):
        open_shards(folder)
    monkeypatch.setattr(np, "memmap", None)
    assert open_shards(folder, verify=False).tokens("train") == 1000
