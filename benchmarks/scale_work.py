"""What :mod:`measure_scale` asks of a process of its own: memory and latency of shards that it opens itself.

    python benchmarks/scale_work.py warm|cold|under_limit|many_files FOLDER [map|read [shuffled|local]]

The answer is one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

BLOCK, SEQUENCES = 1024, 512
SHAPES = {"8 x 1,025": slice(0, 8), "512 x 1,025": slice(None)}
"""Rows of the batch of a step: what one forward pass reads, and the whole of half a million tokens."""
MARKS = (10, 100, 1000, 5000)
"""Batches of 8 after which memory is read."""
WHOLE_BATCHES = 300
COLD_BATCHES = {"8 x 1,025": 5, "512 x 1,025": 2}


def status_kb(*fields: str) -> dict[str, int]:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {field: int(lines[field].split()[0]) for field in fields}


def read_bytes() -> int:
    """Bytes that this process has made the kernel fetch from the disk, read-ahead included."""
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["read_bytes"])


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def throw_out(folder: Path) -> None:
    """Ask the kernel to forget the files' pages, which it does for pages that no process has mapped."""
    for path in folder.glob("*.bin"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def opened_batches(folder: Path, access: str = "map", order: str = "shuffled") -> Any:
    from folio.shards import Batches, open_shards

    shards = open_shards(folder, verify=False).read_by(access)  # type: ignore[arg-type]
    return Batches(shards.split("train"), BLOCK, SEQUENCES, seed=0, order=order)  # type: ignore[arg-type]


def last_step(batches: Any) -> int:
    return int(batches.windows_per_epoch // SEQUENCES - 1)


def warm(folder: Path) -> dict[str, Any]:
    """Memory and latency with the files in the page cache."""
    import folio.shards  # noqa: F401

    rows = SHAPES["8 x 1,025"]
    memory = {"before": status_kb("RssAnon", "RssFile")}
    started = time.perf_counter()
    batches = opened_batches(folder)
    found: dict[str, Any] = {"open_s": time.perf_counter() - started}
    memory["opened"] = status_kb("RssAnon", "RssFile")
    far = {"last step": last_step(batches), "first step": 0, "ten epochs on": 10 * last_step(batches)}
    found["jump_s"] = {name: timed(partial(batches.batch, step, rows)) for name, step in far.items()}
    latencies: dict[str, list[float]] = {name: [] for name in SHAPES}
    processor: dict[str, list[float]] = {name: [] for name in SHAPES}

    def one(shape: str, step: int) -> None:
        used = time.process_time()
        latencies[shape].append(timed(partial(batches.batch, step, SHAPES[shape])))
        processor[shape].append(time.process_time() - used)

    for step in range(MARKS[-1]):
        one("8 x 1,025", step)
        if step + 1 in MARKS:
            memory[f"{step + 1:,} of 8"] = status_kb("RssAnon", "RssFile")
    for step in range(WHOLE_BATCHES):
        one("512 x 1,025", step)
    memory[f"{WHOLE_BATCHES} of 512"] = status_kb("RssAnon", "RssFile")
    return {**found, "memory_kb": memory, "latency_s": latencies, "processor_s": processor}


def cold(folder: Path, access: str = "map") -> dict[str, Any]:
    """Latency of a batch of which nothing is in the page cache."""
    latencies: dict[str, list[float]] = {name: [] for name in SHAPES}
    fetched: dict[str, list[int]] = {name: [] for name in SHAPES}
    jump = []
    for name, rows in SHAPES.items():
        for step in range(COLD_BATCHES[name]):
            batches = opened_batches(folder, access)  # anew, so that no page is mapped
            throw_out(folder)
            before = read_bytes()
            latencies[name].append(timed(partial(batches.batch, step, rows)))
            fetched[name].append(read_bytes() - before)
    batches = opened_batches(folder, access)
    throw_out(folder)
    jump.append(timed(partial(batches.batch, last_step(batches), SHAPES["8 x 1,025"])))
    return {"latency_s": latencies, "read_bytes": fetched, "jump_s": jump}


def under_limit(folder: Path, access: str, order: str, whole: int = 40) -> dict[str, Any]:
    """Batches in a row, where less memory is allowed than the files take."""
    batches = opened_batches(folder, access, order)
    before = read_bytes()
    first = [timed(partial(batches.batch, step, SHAPES["8 x 1,025"])) for step in range(100)]
    then = [timed(partial(batches.batch, step)) for step in range(whole)]
    latencies = dict(zip(SHAPES, (first, then), strict=True))
    memory = status_kb("RssAnon", "RssFile")
    return {"latency_s": latencies, "memory_kb": memory, "read_bytes": read_bytes() - before}


def many_files(folder: Path) -> dict[str, Any]:
    """A folder of many small files: opening it, and a window of each."""
    from folio.shards import open_shards

    before, started = status_kb("RssAnon")["RssAnon"], time.perf_counter()
    shards = open_shards(folder, verify=False)
    opened, memory = time.perf_counter() - started, status_kb("RssAnon")["RssAnon"]
    summed = timed(lambda: open_shards(folder))
    stream = shards.split("train")
    files = len(stream.paths)
    started = time.perf_counter()
    for index in range(files):
        stream.read(index * len(stream) // files, 16)
    read_all = time.perf_counter() - started
    far_apart = np.random.default_rng(0).integers(0, len(stream) - 16, 20_000).tolist()
    apart = [timed(partial(stream.read, start, 16)) for start in far_apart]
    return {
        "files": files,
        "open_s": opened,
        "open_with_sums_s": summed,
        "bytes_a_file": 1024 * (memory - before) / files,
        "read_each_once_s": read_all,
        "read_anywhere_us": 1e6 * median(apart),
        "bytes_a_file_read": 1024 * (status_kb("RssAnon")["RssAnon"] - memory) / files,
        "open_descriptors": len(os.listdir("/proc/self/fd")),
        "maps": len(Path("/proc/self/maps").read_text().splitlines()),
        "manifest_bytes": (folder / "manifest.json").stat().st_size,
    }


WORK = {work.__name__: work for work in (warm, cold, under_limit, many_files)}

if __name__ == "__main__":
    print(json.dumps(WORK[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])))
