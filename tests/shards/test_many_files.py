"""Thousands of shard files are opened quickly, and read with few of them open at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from folio.artifacts import seal_manifest
from folio.checksums import record_of
from folio.shards import Batches, open_shards
from folio.shards.format import UINT16, Header, header_bytes
from folio.shards.manifest import shards_manifest

resource = pytest.importorskip("resource", reason="limits of open files are Unix's")

FILES, IDS_EACH = 3000, 20
ALLOWED = 512


@pytest.fixture
def few_open_files() -> Iterator[None]:
    """A limit of open files far below the number of shards."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (ALLOWED, usual[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, usual)


def many_files(folder: Path) -> NDArray[np.uint16]:
    """Shards as :func:`folio.shards.write_shards` leaves them, without a sync of each file; their ids."""
    ids = (np.arange(FILES * IDS_EACH) % 257).astype(np.uint16)
    files = {}
    for index in range(FILES):
        path = folder / f"train_{index:06d}.bin"
        header = header_bytes(Header(UINT16, IDS_EACH))
        path.write_bytes(header + ids[index * IDS_EACH :][:IDS_EACH].tobytes())
        files[path.name] = record_of(path)
    splits = {"train": {"tokens": len(ids), "documents": 1, "text_bytes": 1, "files": list(files)}}
    config = {"tokenizer": {"vocab_size": 257}, "dtype": "uint16", "splits": splits}
    seal_manifest(folder, shards_manifest(config, files))
    return ids


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc, which Linux has")
@pytest.mark.usefixtures("few_open_files")
def test_a_folder_of_3000_files_opens_quickly_and_is_read_whole_under_a_low_limit(tmp_path: Path) -> None:
    expected = many_files(tmp_path)
    before = open_files()
    started = time.monotonic()
    stream = open_shards(tmp_path).split("train")
    assert time.monotonic() - started < 5  # 0.2 s on an idle core
    assert len(stream.paths) == FILES
    assert open_files() <= before  # nothing is opened that was not asked for; what others left open may go meanwhile
    for start in range(0, len(stream), IDS_EACH):
        assert np.array_equal(stream.read(start, IDS_EACH), expected[start : start + IDS_EACH])
    batches = Batches(stream, block_size=30, sequences=64, seed=0)
    for step in range(20):
        for row, start in zip(batches.batch(step), batches.window_starts(step), strict=True):
            assert np.array_equal(row, expected[start : start + 31])
    assert open_files() - before < ALLOWED
