"""What reading windows of training data one by one costs: by memory map and by read, cached and cold, in both orders.

    python benchmarks/measure_random_access.py FOLDER [--gigabytes 2] [--windows 4096] [--rounds 5]

Writes a set of shards of made-up ids into FOLDER (once; remove it afterwards). A window is 1,024 ids and its target,
the batches are those that training reads: 64 windows each, read in the order of the files. ``cached``: every page of
the files has been read just before. ``cold``: the kernel was asked to drop them (posix_fadvise DONTNEED), which
empties this machine's cache, not one behind a virtual disk; mincore says how much stayed. Ways alternate within a
round. Printed are medians over rounds, and how much the disk gave for each window (/proc/self/io).
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import mmap
import os
import statistics
import time
from pathlib import Path

import numpy as np

from folio.shards import Batches, TokenStream
from folio.shards.format import HEADER_BYTES, UINT16, Header, header_bytes, read_header

TOKENS_A_FILE = 100_000_000
SEQUENCES = 64
BLOCK_SIZE = 1024
ORDERS = {"shuffled": {}, "local": {"order": "local", "order_bytes": 0}}


def files_in(folder: Path, gigabytes: float) -> list[tuple[Path, Header]]:
    """Shards of ``gigabytes``, written if they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(max(1, round(gigabytes * 1e9 / TOKENS_A_FILE / UINT16.itemsize))):
        path, header = folder / f"train_{number:06}.bin", Header(UINT16, TOKENS_A_FILE)
        if not path.exists() or path.stat().st_size != HEADER_BYTES + TOKENS_A_FILE * UINT16.itemsize:
            ids = np.random.default_rng(number).integers(0, 50257, TOKENS_A_FILE, dtype=np.uint16)
            path.write_bytes(header_bytes(header) + ids.tobytes())
        made.append((path, read_header(path)))
    os.sync()
    return made


def drop(paths: list[Path]) -> None:
    for path in paths:
        number = os.open(path, os.O_RDONLY)
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(number)


def touch(paths: list[Path]) -> None:
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.read(16 << 20):
                pass


def cached_share(paths: list[Path]) -> float:
    """The share of all pages that are in memory (mincore)."""
    libc, inside, pages = ctypes.CDLL(None, use_errno=True), 0, 0
    for path in paths:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
            count = -(-len(mapped) // mmap.PAGESIZE)
            seen, first = (ctypes.c_ubyte * count)(), ctypes.c_char.from_buffer(mapped)
            if libc.mincore(ctypes.byref(first), ctypes.c_size_t(len(mapped)), seen):
                raise OSError(ctypes.get_errno(), "mincore")
            inside, pages = inside + int((np.frombuffer(seen, np.uint8) & 1).sum()), pages + count
            del first
    return inside / pages


def read_bytes() -> int:
    """Bytes that this process has had fetched from disks."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("read_bytes"):
            return int(line.split()[1])
    raise LookupError("read_bytes")


def measured(batches: Batches, windows: int, first: int) -> tuple[float, float, float]:
    """Microseconds a window: mean, and of the slowest batch of a hundred; and kB from the disk for each."""
    taken, before = [], read_bytes()
    for step in range(first, first + windows // SEQUENCES):
        begun = time.perf_counter()
        batches.batch(step)
        taken.append((time.perf_counter() - begun) / SEQUENCES * 1e6)
    return statistics.mean(taken), float(np.percentile(taken, 99)), (read_bytes() - before) / 1e3 / windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--windows", type=int, default=4096, help="read in each turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--order-bytes", type=int, default=256 << 20, help="of the local order")
    options = parser.parse_args()
    files = files_in(options.folder, options.gigabytes)
    paths = [path for path, _ in files]
    ORDERS["local"]["order_bytes"] = options.order_bytes
    ways = list(itertools.product(("cached", "cold"), ("map", "read"), ORDERS))
    results: dict[tuple[str, str, str], list[tuple[float, float, float]]] = {way: [] for way in ways}
    stayed = []
    for number in range(options.rounds):
        for way in ways:
            state, access, order = way
            batches = Batches(TokenStream(files, access), BLOCK_SIZE, SEQUENCES, number, **ORDERS[order])
            if state == "cached":
                touch(paths)
            else:
                drop(paths)
                stayed.append(cached_share(paths))
            results[way].append(measured(batches, options.windows, 0))
            del batches  # and its maps: a page that is mapped cannot be dropped
    size = sum(path.stat().st_size for path in paths)
    print(
        f"{len(files)} files, {size / 1e9:.1f} GB; {options.windows:,} windows of {BLOCK_SIZE:,}, {SEQUENCES} at once; "
        f"local order {options.order_bytes / 2**20:,.0f} MiB; median of {options.rounds} rounds; {max(stayed):.1%} of "
        "the pages stayed when they were dropped"
    )
    print("\n| pages | access | order | us a window | slowest batches (p99) | kB from the disk a window |")
    print("|---|---|---|---|---|---|")
    for way, found in results.items():
        mean, slow, kilobytes = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"| {' | '.join(way)} | {mean:.1f} | {slow:.1f} | {kilobytes:.1f} |")


if __name__ == "__main__":
    main()
