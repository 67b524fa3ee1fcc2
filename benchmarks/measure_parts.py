"""How fast a source becomes shards, part by part, beside raw tiktoken on the same texts in the same run.

    python benchmarks/measure_parts.py NOVELS.tar.xz [--megabytes 64] [--files 3] [--rounds 7]

The source: passages of 3,000 to 6,000 characters, lines ended by LF, in row groups of 1,000, with ids, as parquet.
Raw is ``encode_ordinary`` document by document over texts that lie in memory, the lists thrown away.

In one process: what a worker does with a part (read, divide by hash, encode, sum, file, fsync) and raw, part by part in
an order drawn anew, by processor time; a ratio is of neighbours. Whole: all of ``write_parts`` over ``--files`` such
files (processes started, merging, sums, manifest) and raw in as many processes, which have their texts and their
encoder before the clock starts. "Less start-up" takes off what ``write_parts`` needs for eight documents. Rounds
alternate, medians are printed. MB is 10^6 bytes of UTF-8.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from folio.corpus.sources import ByHash, FirstParts, Part, Sides, Source, SourceConfig, open_source
from folio.shards import ShardsConfig
from folio.shards.parts.encode import EncodeParts
from folio.shards.parts.refining import Refining
from folio.shards.parts.write import write_parts
from folio.shards.worker import Encoding
from folio.tokenizer import gpt2_tokenizer

HELD_OUT = ByHash(0.001)
WORKERS = (1, 2)


def passages(archive: Path, megabytes: float) -> list[str]:
    """The novels in pieces, shuffled, about ``megabytes`` of them."""
    dice, found = random.Random(0), list[str]()
    with tarfile.open(archive) as opened:
        for member in opened:
            file = opened.extractfile(member) if member.isfile() and member.name.endswith(".txt") else None
            text, at = file.read().decode("utf-8", "replace").replace("\r\n", "\n") if file else "", 0
            while at < len(text):
                found.append(text[at : (at := at + dice.randint(3000, 6000))])
    dice.shuffle(found)
    room = megabytes * 1e6
    return [text for text in found if (room := room - len(text.encode())) >= 0]


def write_source(texts: list[str], folder: Path, compression: str, files: int, rows: int = 1000) -> Path:
    """A parquet file, under ``files`` names, in row groups of ``rows``."""
    folder.mkdir()
    names = [f"<urn:uuid:{number:08d}>" for number in range(len(texts))]
    table = pa.table({"text": texts, "id": names})
    pq.write_table(table, folder / "0.parquet", row_group_size=rows, compression=compression)
    for number in range(1, files):
        os.link(folder / "0.parquet", folder / f"{number}.parquet")
    return folder


def texts_of(source: Source, part: Part) -> list[str]:
    return [document.text for document in source.documents(part)]


def megabytes_of(texts: Iterator[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


def raw(texts: list[str]) -> None:
    encoding = TOKENIZER.tiktoken_encoding
    assert encoding is not None
    for text in texts:
        encoding.encode_ordinary(text)


def in_one_process(folder: Path, place: Path, parts: int, rounds: int) -> None:
    """Print the rows of the first table for one source."""
    source = open_source(SourceConfig(path=str(folder)))
    assert TOKENIZER.eot_id is not None
    place.mkdir()
    job = EncodeParts(Refining(source), HELD_OUT, Encoding(TOKENIZER, TOKENIZER.eot_id, TOKENIZER.dtype), place, False)
    chosen = list(islice(source.parts(), parts))
    texts = [texts_of(source, part) for part in chosen]
    megabytes = megabytes_of(text for of_part in texts for text in of_part)
    ways: dict[str, Callable[[int], object]] = {
        "raw tiktoken": lambda at: raw(texts[at]),
        "a worker's part": lambda at: job.run(chosen[at], lambda word: None),
        "reading alone": lambda at: sum(1 for _ in source.documents(chosen[at])),
    }
    for work in ways.values():
        work(0)  # what is loaded and built once
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    dice = random.Random(0)
    for _ in range(rounds):
        for at in range(len(chosen)):
            for name in dice.sample(list(ways), len(ways)):
                start = time.process_time()
                ways[name](at)
                seconds[name].append(time.process_time() - start)
    for name, found in seconds.items():
        ratios = [base / each for base, each in zip(seconds["raw tiktoken"], found, strict=True)]
        rate = megabytes / len(chosen) / statistics.median(found)
        low, median, high = statistics.quantiles(ratios, n=4)
        print(f"| {folder.name} | {name} | {rate:.1f} | {median:.3f} ({low:.3f} to {high:.3f}) |")


def cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def raw_processes(folder: Path, processes: int) -> tuple[float, float]:
    """Wall and processor seconds of raw tiktoken over the parts of ``folder``, shared out to processes."""
    command = [sys.executable, __file__, "--raw", str(folder), "--of", str(processes), "--share"]
    children = [
        subprocess.Popen([*command, str(share)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for share in range(processes)
    ]
    pipes = [(child.stdin, child.stdout) for child in children]
    for _, answers in pipes:
        assert answers is not None
        answers.readline()
    start = time.perf_counter()
    for orders, _ in pipes:
        assert orders is not None
        orders.write("go\n")
        orders.flush()
    used = sum(float(answers.readline()) for _, answers in pipes if answers is not None)
    wall = time.perf_counter() - start
    for child in children:
        child.communicate()
    return wall, used


def raw_process(folder: Path, share: int, of: int) -> None:
    """One of them: says when it is ready, and its processor seconds when it is done."""
    source = open_source(SourceConfig(path=str(folder)))
    texts = [text for part in source.parts() if part.number % of == share for text in texts_of(source, part)]
    raw(texts[:1])  # builds the encoder
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.process_time()
    raw(texts)
    print(time.process_time() - start, flush=True)


def folio(folder: Path, workers: int, sides: Sides = HELD_OUT) -> tuple[float, float]:
    """Wall and processor seconds of ``write_parts``, those of its processes among them."""
    source = open_source(SourceConfig(path=str(folder)))
    with tempfile.TemporaryDirectory(dir=folder.parent) as to:
        wall, used = time.perf_counter(), cpu_seconds()
        write_parts(source, TOKENIZER, Path(to) / "shards", ShardsConfig(workers=workers), sides=sides)
        return time.perf_counter() - wall, cpu_seconds() - used


def whole(folder: Path, small: Path, megabytes: float, rounds: int) -> None:
    """Print the second table."""
    ways: dict[str, Callable[[], tuple[float, float]]] = {}
    for workers in WORKERS:
        ways[f"raw tiktoken, {workers}"] = partial(raw_processes, folder, workers)
        ways[f"write_parts, {workers}"] = partial(folio, folder, workers)
        ways[f"start-up, {workers}"] = partial(folio, small, workers, FirstParts(1))
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            found[name].append(work())
    wall, used = ({name: [pair[kind] for pair in pairs] for name, pairs in found.items()} for kind in (0, 1))
    for seconds in (wall, used):
        for workers in WORKERS:
            pairs = zip(seconds[f"write_parts, {workers}"], seconds[f"start-up, {workers}"], strict=True)
            seconds[f"less start-up, {workers}"] = [all_of_it - start for all_of_it, start in pairs]

    def ratio(seconds: dict[str, list[float]], one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))

    for workers in WORKERS:
        for name in ("raw tiktoken", "write_parts", "less start-up"):
            key, base = f"{name}, {workers}", f"raw tiktoken, {workers}"
            rates = [f"{megabytes / statistics.median(seconds[key]):.1f}" for seconds in (wall, used)]
            ratios = [f"{ratio(seconds, base, key):.3f}" for seconds in (wall, used)]
            grown = f"{ratio(wall, f'{name}, {WORKERS[0]}', key):.2f}"
            print(f"| {name} | {workers} | {rates[0]} | {ratios[0]} | {rates[1]} | {ratios[1]} | {grown} |")
    for workers in WORKERS:
        took, cost = (statistics.median(seconds[f"start-up, {workers}"]) for seconds in (wall, used))
        print(f"\nStart-up with {workers}: {took:.2f} s, {cost:.2f} s of processor time.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, nargs="?")
    parser.add_argument("--megabytes", type=float, default=64)
    parser.add_argument("--files", type=int, default=3, help="how often the whole is read for the second table")
    parser.add_argument("--parts", type=int, default=4, help="row groups for the first table")
    parser.add_argument("--rounds", type=int, default=7)
    for name in ("--raw", "--share", "--of"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.raw:
        raw_process(Path(options.raw), int(options.share), int(options.of))
        return
    texts = passages(options.archive, options.megabytes)
    megabytes = megabytes_of(iter(texts))
    print(f"{len(texts):,} documents, {megabytes:.1f} MB; {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory() as root:
        folders = {name: write_source(texts, Path(root) / name, name, options.files) for name in ("snappy", "zstd")}
        small = write_source(texts[:8], Path(root) / "small", "zstd", 1, rows=4)
        print("| parquet | one process | MB per CPU second | ratio to raw (middle half) |\n|---|---|---|---|")
        for name, folder in folders.items():
            in_one_process(folder, Path(root) / f"ids-{name}", options.parts, options.rounds)
        everything = options.files * megabytes
        print(f"\nWhole, {options.files} files of zstd, {everything:.0f} MB; load {os.getloadavg()[0]:.1f}\n")
        print("| | processes | MB/s | to raw | MB per CPU second | to raw | times one process |")
        print("|---|---|---|---|---|---|---|")
        whole(folders["zstd"], small, everything, options.rounds)


TOKENIZER = gpt2_tokenizer()

if __name__ == "__main__":
    main()
