"""Reading a part takes a stated amount of memory, however large its row group or file: the system enforces it here.

The statement: 64 MiB, five times the longest document, and 32 MiB more over a network.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sources_world import serving, write_parquet

if sys.platform != "linux":
    pytest.skip("the limit is Linux's", allow_module_level=True)

READ = """
import re, resource, sys
from folio.corpus.sources import SourceConfig, open_source
def size():
    return int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) * 1024
def walk(path):
    source = open_source(SourceConfig(path=path, damaged=sys.argv[4]))
    return sum(len(d.text) for part in source.parts() for d in source.documents(part))
walk(sys.argv[1])  # what is loaded and started once
limit = size() + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
print({task})
"""
WALK = "walk(sys.argv[2])"
WHOLE = "len(__import__('pyarrow.parquet').parquet.read_table(sys.argv[2], use_threads=False))"
BOUND = 64 << 20


def text(characters: int, seed: int) -> str:
    letters = np.random.default_rng(seed).integers(97, 123, size=characters, dtype=np.uint8)
    letters[::7] = 32
    return letters.tobytes().decode()


def in_a_child(tmp_path: Path, path: Path | str, limit: int, task: str = WALK, damaged: str = "stop") -> str:
    """What the child prints under ``limit`` bytes more than it has after a small source."""
    small = write_parquet(tmp_path / "small" / "a.parquet", ["small"] * 4)
    (tmp_path / "small" / "b.jsonl").write_text('{"text": "small"}\n')
    command = [sys.executable, "-c", READ.replace("{task}", task), str(small.parent), str(path), str(limit), damaged]
    # Address space that is set aside but not used, for stacks and pools of threads, would count here.
    frugal = {"ARROW_DEFAULT_MEMORY_POOL": "system", "ARROW_IO_THREADS": "1", "OMP_NUM_THREADS": "1"}
    surroundings = {**os.environ, **frugal, "MALLOC_ARENA_MAX": "2"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=surroundings)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """160 MB in 20,000 documents."""
    return [text(8000, number) for number in range(20_000)]


@pytest.mark.parametrize(("rows", "damaged"), [(500, "stop"), (20_000, "stop"), (500, "skip"), (20_000, "skip")])
def test_many_row_groups_and_a_single_huge_one_stay_below(
    tmp_path: Path, texts: list[str], rows: int, damaged: str
) -> None:
    path = write_parquet(tmp_path / "a.parquet", texts, rows, compression="zstd")
    assert in_a_child(tmp_path, path, BOUND, damaged=damaged) == "160000000"


def test_the_limit_is_felt(tmp_path: Path, texts: list[str]) -> None:
    path = write_parquet(tmp_path / "a.parquet", texts, 500, compression="zstd")
    assert "memory" in in_a_child(tmp_path, path, BOUND, WHOLE).lower()


def test_lines_stay_below(tmp_path: Path, texts: list[str]) -> None:
    with open(tmp_path / "a.jsonl", "w") as file:
        file.writelines(json.dumps({"text": each}) + "\n" for each in texts)
    assert in_a_child(tmp_path, tmp_path / "a.jsonl", BOUND) == "160000000"


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_document_of_forty_megabytes_takes_five_times_that(tmp_path: Path, kind: str) -> None:
    long = [text(5000, 0), text(40_000_000, 1), text(5000, 2)]
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        write_parquet(path, long, 3)
    else:
        path.write_text("".join(json.dumps({"text": each}) + "\n" for each in long))
    assert in_a_child(tmp_path, path, BOUND + 5 * 40_000_000) == "40010000"


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_reading_over_a_network_adds_thirty_two_mebibytes(tmp_path: Path, texts: list[str], kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        write_parquet(path, texts, 20_000, compression="zstd")
    else:
        path.write_text("".join(json.dumps({"text": each}) + "\n" for each in texts))
    with serving({path.name: path.read_bytes()}) as server:
        assert in_a_child(tmp_path, f"{server.url}/{path.name}", BOUND + (32 << 20)) == "160000000"


def test_too_little_memory_is_no_damage_to_pass_over(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [text(5000, 0), text(40_000_000, 1)], 2)
    assert "Read with fewer workers" in in_a_child(tmp_path, path, BOUND, damaged="skip")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_document_of_two_hundred_megabytes_takes_five_times_that(tmp_path: Path, kind: str) -> None:
    long = [text(5000, 0), text(200_000_000, 1), text(5000, 2)]
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        write_parquet(path, long, 3)
    else:
        path.write_text("".join(json.dumps({"text": each}) + "\n" for each in long))
    assert in_a_child(tmp_path, path, BOUND + 5 * 200_000_000) == "200010000"
