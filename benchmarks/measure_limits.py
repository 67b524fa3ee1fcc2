"""What grows with the number of files, parts and windows, for the page about a trillion tokens.

    python benchmarks/measure_limits.py [--parts 100000] [--files 10000] [--folder FOLDER]

Sizes in bytes for each part, file or chunk; times of one process, best of three. FOLDER needs 2 GB for writing.
"""

from __future__ import annotations

import argparse
import gc
import pickle
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from folio.artifacts import FORMAT_VERSION, Manifest
from folio.checksums import FileRecord
from folio.corpus.sources import Plan, SourceFile
from folio.shards.files import SplitWriter
from folio.shards.format import UINT16
from folio.shards.journal import Journal
from folio.shards.order import CHUNKS_IN_A_GROUP, LocalOrder
from folio.shards.parts.journal import PartRecord, SideRecord
from folio.shards.permutation import Permutation

SHA256 = "0" * 64
CLEANING = {"documents": 1000, "kept": 1000, "empty": 0, "duplicates": 0}


def best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def held(make: Callable[[], Any]) -> tuple[Any, int]:
    """What ``make`` gives, and the bytes that Python holds for it."""
    gc.collect()
    tracemalloc.start()
    made = make()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return made, size


def parts(count: int) -> None:
    """The journal of parts: a line each, read whole when unfinished work is gone on with."""
    side = SideRecord(documents=1000, text_bytes=4_600_000, tokens=1_000_000, sha256=SHA256)

    def line(number: int) -> bytes:
        record = PartRecord(
            number=number,
            part=f"sample/10BT/{number // 726:03d}_00000.parquet:{number % 726}",
            sides={"train": side},
            cleaning=CLEANING,
            damaged=0,
            damaged_rows=0,
        )
        return record.model_dump_json().encode() + b"\n"

    lines = [line(number) for number in range(count)]
    records, size = held(lambda: [PartRecord.model_validate_json(each) for each in lines])
    reading = best(lambda: [PartRecord.model_validate_json(each) for each in lines])
    print(f"part journal: {sum(map(len, lines)) / count:.0f} bytes a part on disk, {size / len(records):.0f} in memory")
    print(f"  read at {count / reading:,.0f} parts a second")
    groups = 726  # of a file of 2 GB
    file = {"kind": ".parquet", "bytes": 2 * 10**9, "mark": f"sha256:{SHA256}"}
    sizes = {name: tuple(range(10**6, 10**6 + groups)) for name in ("rows", "stored_bytes", "unpacked_bytes")}
    files = [{"name": f"data/{n:05d}.parquet", **file, **sizes} for n in range(-(-count // groups))]
    text = Plan(settings={}, files=tuple(SourceFile.model_validate(one) for one in files)).model_dump_json()
    plan, size = held(lambda: Plan.model_validate_json(text))
    print(f"plan: {len(text) / len(plan):.0f} bytes a part on disk, {size / len(plan):.0f} in memory")
    sent = pickle.dumps(plan)
    taken = best(lambda: pickle.loads(sent))
    print(f"  sent to a process: {len(sent) / len(plan):.0f}, taken in at {len(plan) / taken:,.0f} a second")


def shards(count: int) -> None:
    """The manifest and the journal that is replaced every second, by shard files."""
    files = {f"train_{n:06d}.bin": FileRecord(bytes=200_001_024, sha256=SHA256) for n in range(count)}
    names = {"splits": {"train": {"tokens": 1, "documents": 1, "text_bytes": 1, "files": list(files)}}}
    journal = Journal(job={}, files=files)
    size, taken = len(journal.model_dump_json()), best(journal.model_dump_json)
    print(f"journal: {size / count:.0f} bytes a shard, {1e6 * taken / count:.2f} us each")
    manifest = Manifest(
        kind="shards", format_version=FORMAT_VERSION, config=names, files=files, environment={}
    ).sealed()
    text = manifest.model_dump_json(indent=2)
    reading = best(lambda: Manifest.model_validate_json(text).is_as_written)
    print(f"manifest: {len(text) / count:.0f} bytes a shard, read and checked in {1e6 * reading / count:.1f} us each")


def orders() -> None:
    """A window's place in the order: the domain of the permutation is up to four times its range."""
    positions = np.arange(512, dtype=np.int64)
    for about, size in (("least", 4**11), ("most", 4**11 + 1)):
        order = Permutation(size, "limits")
        print(f"permutation, {about} walking: {1e3 * best(lambda: order(positions)):.2f} ms for 512 windows")  # noqa: B023
    for tokens in (10**10, 10**12, 15 * 10**12):
        windows, chunk = tokens // 1024, 2**30 // (CHUNKS_IN_A_GROUP * 1024 * 2)
        started = time.perf_counter()
        made, size = held(lambda: LocalOrder(windows, chunk, CHUNKS_IN_A_GROUP, "limits"))  # noqa: B023
        taken = time.perf_counter() - started
        print(
            f"local order of {tokens:.0e} ids: {-(-windows // chunk):,} chunks, {size / 1e6:.2f} MB, made in "
            f"{1e3 * taken:.1f} ms, {1e3 * best(lambda: made(positions + windows // 2)):.2f} ms for 512 windows"  # noqa: B023
        )


def merging(folder: Path | None) -> None:
    """What the one process that merges parts can write: 2 GB of ids, each file hashed and synced."""
    ids = np.random.default_rng(0).integers(0, 50257, 1 << 20).astype(np.uint16)

    def write() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            writer = SplitWriter(Path(place), "train", UINT16, 100_000_000)
            for _ in range(954):
                writer.write(ids)
            writer.finish()

    print(f"writing shards: {954 * len(ids) / best(write) / 1e6:,.0f} million ids a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where to write for a moment; the system's own place if empty")
    options = parser.parse_args()
    parts(options.parts)
    shards(options.files)
    orders()
    merging(options.folder)


if __name__ == "__main__":
    main()
