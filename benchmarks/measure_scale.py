"""What a batch costs as the data grows: shards of 10 million to 5 billion ids, their memory and latency side by side.

    python benchmarks/measure_scale.py write NOVELS.tar.xz --to FOLDER [--sizes 10M 100M 1B 5B]
    python benchmarks/measure_scale.py batches FOLDER [--rounds 10] [--result PAGE.json]
    python benchmarks/measure_scale.py sums FOLDER [--rounds 3]
    python benchmarks/measure_scale.py limited FOLDER/5B [--memory-gb 2]
    python benchmarks/measure_scale.py files FOLDER [--files 10000]
    python benchmarks/measure_scale.py figures RESULT.json --to STEM      # and the tables again

``write`` resamples any text (a folder, a file, a tar archive of .txt): documents of about a thousand ids, cut at ends
of lines, in an order drawn anew for each pass over them. 5B takes 10 GB of disk. ``batches`` takes a fresh process for
every size and round, sizes in turn, first with the files in the page cache, then with them thrown out of it before
every batch. ``limited`` needs the right to make a control group. Linux only; 1 GB is 10^9 bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import scale_work
from scale_work import SHAPES, cold, many_files, throw_out, timed, under_limit, warm

WAYS: dict[str, tuple[Any, ...]] = {
    "in the page cache": (warm,),
    "cold, by map": (cold, "map"),
    "cold, by read": (cold, "read"),
}
UNITS = {"K": 10**3, "M": 10**6, "B": 10**9}


def tokens_of(size: str) -> int:
    return int(float(size[:-1]) * UNITS[size[-1]])


def asked(
    work: Callable[..., object], folder: Path, *settings: str, before: Callable[[], None] | None = None
) -> dict[str, Any]:
    """What ``work`` finds in a process of its own, which runs ``before`` first."""
    command = [sys.executable, scale_work.__file__, work.__name__, str(folder), *settings]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=before)
    return dict(json.loads(answer.stdout))


def write(options: argparse.Namespace) -> None:
    from scale_shards import pieces_of, write_set

    pieces = pieces_of(options.text)
    print(f"{len(pieces):,} documents of {np.mean([len(ids) for ids, _ in pieces]):,.0f} ids on average")
    for size in options.sizes:
        seconds = timed(partial(write_set, pieces, options.to / size, tokens_of(size), options.tokens_per_shard))
        print(f"{size}: written in {seconds:.1f} s", flush=True)


def by_size(folder: Path) -> dict[str, Path]:
    sizes = [path for path in folder.iterdir() if path.is_dir() and path.name[-1] in UNITS]
    return {path.name: path for path in sorted(sizes, key=lambda path: tokens_of(path.name))}


def read_through(folder: Path) -> None:
    buffer = bytearray(16 << 20)
    for path in folder.glob("*.bin"):
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def batches(options: argparse.Namespace) -> None:
    sizes = by_size(options.folder)
    result: dict[str, Any] = {way: {size: [] for size in sizes} for way in WAYS}
    for way, (work, *settings) in WAYS.items():
        for number in range(options.rounds):
            for size, folder in sizes.items():
                if work is warm:
                    read_through(folder)
                result[way][size].append(asked(work, folder, *settings))
            print(f"{way}: round {number + 1}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    if options.result:
        options.result.write_text(json.dumps(result))
    show(result)


def show(result: dict[str, Any]) -> None:
    in_memory = result["in the page cache"]
    marks = list(next(iter(in_memory.values()))[0]["memory_kb"])
    row("ids", *marks, "file pages at the end")
    for size, rounds in in_memory.items():
        seen = {mark: [one["memory_kb"][mark]["RssAnon"] / 1e3 for one in rounds] for mark in marks}
        pages = median(one["memory_kb"][marks[-1]]["RssFile"] / 1e3 for one in rounds)
        row(size, *(f"{median(values):.1f} ({max(values):.1f})" for values in seen.values()), f"{pages:,.0f}")
    for way, sizes in result.items():
        for shape in SHAPES:
            row(f"{way}, {shape}", "median", "p95", "p99", "median of each round", "processor time", "MB fetched")
            for size, rounds in sizes.items():
                middles = sorted(1e3 * median(one["latency_s"][shape]) for one in rounds)
                processor = pooled(rounds, "processor_s", shape)
                fetched = pooled(rounds, "read_bytes", shape)
                row(
                    size,
                    *milliseconds(pooled(rounds, "latency_s", shape)),
                    f"{middles[0]:.2f} to {middles[-1]:.2f}",
                    f"{1e3 * median(processor):.2f}" if processor else "",
                    f"{median(fetched) / 1e6:,.1f}" if fetched else "",
                )
    cold_ways = [way for way in WAYS if "cold" in way]
    places = next(iter(in_memory.values()))[0]["jump_s"]
    row("ids", "open, ms", *places, *(f"last step, {way}" for way in cold_ways))
    for size, rounds in in_memory.items():
        jumps = [median(one["jump_s"][name] for one in rounds) for name in places]
        away = [median(one["jump_s"][0] for one in result[way][size]) for way in cold_ways]
        opened = median(one["open_s"] for one in rounds)
        row(size, *(f"{1e3 * value:.2f}" for value in (opened, *jumps, *away)))


def pooled(rounds: list[dict[str, Any]], what: str, shape: str) -> list[float]:
    return [value for one in rounds for value in one.get(what, {}).get(shape, [])]


def milliseconds(seconds: list[float]) -> list[str]:
    return [f"{1e3 * value:.2f}" for value in np.quantile(seconds, [0.5, 0.95, 0.99])]


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def sums(options: argparse.Namespace) -> None:
    """Opening with every sha256, and ``folio shards verify``, of every size."""
    from folio.shards import open_shards

    taken: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.rounds):
        for size, folder in by_size(options.folder).items():
            command = [str(Path(sys.executable).with_name("folio")), "shards", "verify", str(folder), "--json"]
            verifying = partial(subprocess.run, command, check=True, stdout=subprocess.PIPE)
            for name, work in (("open", partial(open_shards, folder)), ("verify", verifying)):
                read_through(folder)
                taken.setdefault((size, name), []).append(timed(work))
                throw_out(folder)
                taken.setdefault((size, f"{name}, not in the page cache"), []).append(timed(work))
    for (size, name), seconds in taken.items():
        gigabytes = sum(path.stat().st_size for path in (options.folder / size).glob("*.bin")) / 1e9
        print(f"| {size} | {name} | {median(seconds):.2f} s | {gigabytes / median(seconds):.2f} GB/s |")


def limited(options: argparse.Namespace) -> None:
    """One size in a control group of its own, below the one this process is in, with less memory than the files."""
    row("access, order", "shape", "median", "p95", "p99", "GB fetched", "memory, MB", "most the group held, MB")
    for access, order in (("map", "shuffled"), ("read", "shuffled"), ("map", "local"), ("read", "local")):
        with control_group(int(options.memory_gb * 1e9)) as group:
            throw_out(options.folder)
            found = asked(under_limit, options.folder, access, order, before=partial(join, group))
            peaks = (group / name for name in ("memory.max_usage_in_bytes", "memory.peak"))
            held = next((f"{int(peak.read_text()) / 1e6:,.0f}" for peak in peaks if peak.exists()), "")
        memory = f"{found['memory_kb']['RssAnon'] / 1e3:.1f}"
        for shape, seconds in found["latency_s"].items():
            row(f"{access}, {order}", shape, *milliseconds(seconds), f"{found['read_bytes'] / 1e9:.1f}", memory, held)


def join(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))


@contextmanager
def control_group(limit_bytes: int) -> Iterator[Path]:
    """A memory control group of Linux, version 1 or 2, below this process's own; removed at the end."""
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    old = "memory" in own
    top = Path("/sys/fs/cgroup/memory" if old else "/sys/fs/cgroup")
    path = top / own["memory" if old else ""].lstrip("/") / "folio-scale"
    path.mkdir()
    try:
        (path / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(limit_bytes))
        yield path
    finally:
        path.rmdir()


def files(options: argparse.Namespace) -> None:
    from scale_shards import write_many_files

    folder = options.folder / f"{options.files}-files"
    if not folder.exists():
        write_many_files(folder, options.files)
    for name, value in asked(many_files, folder).items():
        print(f"{name}: {value:,.4g}" if isinstance(value, float) else f"{name}: {value}")


def figures(options: argparse.Namespace) -> None:
    from folio.reports.charts import Series, line_chart, standalone

    result = json.loads(options.result.read_text())
    show(result)
    in_memory = result["in the page cache"]
    sizes = {size: tokens_of(size) for size in in_memory}

    def latency(way: str, shape: str, label: str, colour: int, share: float = 0.5) -> Series:
        ys = [1e3 * float(np.quantile(pooled(result[way][size], "latency_s", shape), share)) for size in sizes]
        return Series(label, list(sizes.values()), ys, dots=True, dashed=share > 0.5, colour=colour)

    def memory(mark: str, label: str, colour: int) -> Series:
        ys = [median(one["memory_kb"][mark]["RssAnon"] / 1e3 for one in in_memory[size]) for size in sizes]
        return Series(label, list(sizes.values()), ys, dots=True, dashed=mark == "before", colour=colour)

    small, whole = SHAPES
    drawn = {
        "latency": [
            latency("in the page cache", small, f"{small}, median", 0),
            latency("in the page cache", small, f"{small}, p99", 0, 0.99),
            latency("in the page cache", whole, f"{whole}, median", 1),
            latency("in the page cache", whole, f"{whole}, p99", 1, 0.99),
            latency("cold, by read", whole, f"{whole}, cold, by read", 2),
            latency("cold, by map", whole, f"{whole}, cold, by map", 3),
        ],
        "memory": [
            Series("ids on disk", list(sizes.values()), [2 * n / 1e6 for n in sizes.values()], dots=True, colour=1),
            memory("5,000 of 8", "after 5,000 batches", 0),
            memory("before", "before opening", 2),
        ],
    }
    titles = {"latency": ("Time of a batch by size of the data", "milliseconds")}
    titles["memory"] = ("Memory of the process by size of the data", "MB, not file-backed")
    for name, series in drawn.items():
        title, y_label = titles[name]
        svg = line_chart(series, title=title, x_label="ids in the shards", y_label=y_label, log_x=True, log_y=True)
        path = options.to.with_name(f"{options.to.name}_{name}.svg")
        path.write_text(standalone(svg), encoding="utf-8")
        print(path)


def arguments() -> Iterator[tuple[str, Callable[[argparse.Namespace], None], list[tuple[Any, ...]]]]:
    folder = ("folder", {"type": Path})
    yield (
        "write",
        write,
        [
            ("text", {"type": Path}),
            ("--to", {"type": Path, "required": True}),
            ("--sizes", {"nargs": "+", "default": ["10M", "100M", "1B", "5B"]}),
            ("--tokens-per-shard", {"type": int, "default": 100_000_000}),
        ],
    )
    yield "batches", batches, [folder, ("--rounds", {"type": int, "default": 10}), ("--result", {"type": Path})]
    yield "sums", sums, [folder, ("--rounds", {"type": int, "default": 3})]
    yield "limited", limited, [folder, ("--memory-gb", {"type": float, "default": 2.0})]
    yield "files", files, [folder, ("--files", {"type": int, "default": 10_000})]
    yield "figures", figures, [("result", {"type": Path}), ("--to", {"type": Path, "required": True})]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for name, work, flags in arguments():
        verb = verbs.add_parser(name)
        verb.set_defaults(work=work)
        for flag, about in flags:
            verb.add_argument(flag, **about)
    options = parser.parse_args()
    options.work(options)


if __name__ == "__main__":
    main()
