"""How fast shards are written, beside raw tiktoken on the same text in the same run.

    python benchmarks/measure_shards.py NOVELS.tar.xz [--megabytes 24] [--rounds 3]

Raw: ``encode_ordinary`` document by document, the lists thrown away. Folio: ``write_shards`` with GPT-2's vocabulary,
processes, files, hashes and manifest included. Rounds alternate; medians are printed. MB is 10^6 bytes of UTF-8.
``per CPU second`` divides by the user and system time of all processes, which a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from folio import checksums
from folio.corpus import Document
from folio.shards import Batches, ShardsConfig, open_shards, verify_shards, write_shards
from folio.tokenizer import gpt2_tokenizer

Measurement = tuple[float, float]  # wall seconds, CPU seconds


def novels(archive: Path, megabytes: float) -> list[Document]:
    """Whole novels until about ``megabytes`` of them."""
    found, size = [], 0.0
    with tarfile.open(archive) as opened:
        for member in opened:
            file = opened.extractfile(member) if member.isfile() and member.name.endswith(".txt") else None
            if file is None or size >= megabytes * 1e6:
                continue
            text = file.read().decode("utf-8", "replace")
            found.append(Document(member.name, text, archive.name))
            size += len(text.encode())
    return found


def cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def measured(work: Callable[[], object]) -> Measurement:
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    return time.perf_counter() - wall, cpu_seconds() - cpu


def raw(documents: list[Document]) -> None:
    encoding = TOKENIZER.tiktoken_encoding
    assert encoding is not None
    for document in documents:
        encoding.encode_ordinary(document.text)


def raw_array(document: Document) -> np.ndarray:
    assert TOKENIZER.tiktoken_encoding is not None
    return np.array(TOKENIZER.tiktoken_encoding.encode_ordinary(document.text), dtype=np.uint16)


def raw_forked(documents: list[Document], processes: int) -> None:
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
        for _ in pool.map(raw_array, documents):
            pass


def folio(documents: list[Document], workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        splits = {"train": lambda: documents}
        write_shards(splits, TOKENIZER, Path(folder) / "s", ShardsConfig(workers=workers), source={})


def reading(documents: list[Document]) -> None:
    """Opening, verifying and drawing batches."""
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "s"
        write_shards({"train": lambda: documents}, TOKENIZER, to, source={})
        start = time.perf_counter()
        shards = open_shards(to, verify=False)
        opened = time.perf_counter() - start
        start = time.perf_counter()
        verify_shards(shards)
        verified = time.perf_counter() - start
        batches = Batches(shards.split("train"), block_size=1024, sequences=64, seed=0)
        start = time.perf_counter()
        for step in range(100):
            batches.batch(step)
        drawn = (time.perf_counter() - start) / 100
        megabytes = shards.tokens("train") * 2 / 1e6
        print(f"open by headers {opened * 1e3:.1f} ms; folio shards verify {megabytes / verified:,.0f} MB/s of ids")
        print(f"batch of 64 x 1,025: {drawn * 1e3:.2f} ms, {64 * 1024 / drawn / 1e6:,.0f} million tokens/s")


def comparing(files: int = 8, megabytes: int = 200) -> None:
    """What opening adds: every byte of some files, just written, against its sha256, by one, two and four threads."""
    with tempfile.TemporaryDirectory() as folder:
        records = {}
        for number in range(files):
            path = Path(folder) / str(number)
            path.write_bytes(np.random.default_rng(number).bytes(megabytes * 10**6))
            records[path.name] = checksums.record_of(path)
        for checksums.THREADS in (1, 2, 4):
            best = min(measured(lambda: checksums.check_files(Path(folder), records, "")) for _ in range(3))
            rates = (files * megabytes / 1e3 / seconds for seconds in best)
            print("compare, {} threads: {:.1f} GB/s, {:.1f} GB per CPU second".format(checksums.THREADS, *rates))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--megabytes", type=float, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    documents = novels(options.archive, options.megabytes)
    megabytes = sum(len(document.text.encode()) for document in documents) / 1e6
    ways: dict[str, Callable[[], object]] = {
        "raw tiktoken, 1 process": lambda: raw(documents),
        "write_shards, 1 worker": lambda: folio(documents, 1),
        "raw tiktoken, 2 forked processes": lambda: raw_forked(documents, 2),
        "write_shards, 2 workers": lambda: folio(documents, 2),
    }
    raw(documents[:1])  # builds the encoder
    results: dict[str, list[Measurement]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, work in ways.items():
            results[name].append(measured(work))
    print(f"{len(documents)} novels, {megabytes:.1f} MB, {os.cpu_count()} cores, median of {options.rounds} rounds")
    for name, found in results.items():
        wall, cpu = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{name:34} {megabytes / wall:6.1f} MB/s {megabytes / cpu:6.1f} MB per CPU second")
    reading(documents)
    comparing()


TOKENIZER = gpt2_tokenizer()

if __name__ == "__main__":
    main()
