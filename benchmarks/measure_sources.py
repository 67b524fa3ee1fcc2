"""One source by every way to shards: are the bytes the same, how long does it take, how much memory, what is dropped?

    python benchmarks/measure_sources.py novels.tar.xz --hellaswag hellaswag_val.jsonl --to FOLDER

Cuts the texts of an archive, or of a folder of .txt, into passages of about 4,000 characters, writes them as parquet,
and runs ``folio shards write`` on them: with one process and with two, killed twice and begun again, as two nodes of
datatrove's local executor, and on a Ray begun here. Then plants copies, near-copies and benchmark items among the
passages and counts what is dropped. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

CHARACTERS = 4000
FILES, ROWS = 6, 500
PLANTED = 200
LIMIT_GIB = 2.0
"""Address space that each process is allowed where that is tried out."""


def passages(texts: Path) -> list[str]:
    """The texts in pieces of whole lines."""
    whole: list[tuple[str, str]] = []
    if texts.is_dir():
        whole = [(path.name, path.read_text(encoding="utf-8")) for path in texts.rglob("*.txt")]
    else:
        with tarfile.open(texts) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".txt"):
                    content = archive.extractfile(member)
                    assert content is not None
                    whole.append((member.name, content.read().decode("utf-8", "replace")))
    found: list[str] = []
    for _, text in sorted(whole):
        part: list[str] = []
        size = 0
        for line in text.replace("\r\n", "\n").split("\n"):
            part.append(line)
            size += len(line) + 1
            if size >= CHARACTERS:
                found.append("\n".join(part))
                part, size = [], 0
        if "".join(part).strip():
            found.append("\n".join(part))
    return found


def write_parquet(texts: list[str], folder: Path) -> None:
    folder.mkdir(parents=True)
    per = -(-len(texts) // FILES)
    for number in range(FILES):
        table = pa.table({"text": texts[number * per : (number + 1) * per]})
        pq.write_table(table, folder / f"{number:03d}.parquet", row_group_size=ROWS)


class Peak:
    """The most memory that a process and all below it held at one time, shared pages counted once (PSS)."""

    def __init__(self, process: psutil.Process) -> None:
        self.bytes, self.largest = 0, 0
        self._process, self._stop = process, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.25):
            held = []
            try:
                for each in [self._process, *self._process.children(recursive=True)]:
                    held.append(each.memory_full_info().pss)
            except psutil.Error:
                continue
            self.bytes, self.largest = max(self.bytes, sum(held)), max(self.largest, *held)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def command(source: Path, to: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "folio", "--json", "shards", "write", str(source), "--to", str(to), *flags]


def run(source: Path, to: Path, *flags: str, limited: bool = False) -> dict[str, Any]:
    """One command from start to end."""

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(LIMIT_GIB * 2**30),) * 2)

    begun = time.monotonic()
    process = subprocess.Popen(
        command(source, to, *flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit if limited else None,
    )
    peak = Peak(psutil.Process(process.pid))
    out, error = process.communicate()
    peak.stop()
    if process.returncode:
        raise SystemExit(f"{' '.join(flags)}: {error}")
    answer = json.loads(out)
    return {**answer, "seconds": time.monotonic() - begun, "peak": peak.bytes, "largest": peak.largest}


def killed_twice(source: Path, to: Path, *flags: str) -> dict[str, Any]:
    """SIGKILL of the whole group once some parts are encoded, twice; then to the end. Seconds are of the last run."""
    known = []
    for wanted in (5, 14):
        process = subprocess.Popen(
            command(source, to, *flags), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while encoded(to) < wanted:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        known.append(encoded(to))
    return {**run(source, to, *flags), "known": known}


def encoded(to: Path) -> int:
    """Parts that the journals know of."""
    work = to.with_name(to.name + ".partial")
    return sum(path.read_bytes().count(b"\n") for path in work.glob("parts-*/journal*.jsonl"))


def two_nodes(source: Path, to: Path, *flags: str) -> dict[str, Any]:
    """Two commands begun at the same time, as on two machines that share a folder."""
    begun = time.monotonic()
    engine = ("--engine.kind", "datatrove", "--engine.nodes", "2", "--engine.tasks", "4")
    nodes = [
        subprocess.Popen(
            command(source, to, *flags, *engine, "--engine.node", str(node)), stdout=subprocess.PIPE, text=True
        )
        for node in range(2)
    ]
    answers = [json.loads(node.communicate()[0]) for node in nodes]
    assert answers[0]["id"] == answers[1]["id"]
    return {**answers[0], "seconds": time.monotonic() - begun, "peak": 0, "largest": 0}


def hashes(to: Path) -> dict[str, str]:
    files = json.loads((to / "manifest.json").read_text())["files"]
    return {name: record["sha256"] for name, record in sorted(files.items())}


def same_shards(source: Path, to: Path) -> None:
    flags = ("--shards.tokens-per-shard", "5M")
    ways: dict[str, dict[str, Any]] = {}
    for name, way in {
        "1 process": lambda place: run(source, place, *flags, "--shards.workers", "1"),
        "2 processes": lambda place: run(source, place, *flags, "--shards.workers", "2"),
        f"2 processes, {LIMIT_GIB:.0f} GiB of address space each": lambda place: run(
            source, place, *flags, "--shards.workers", "2", limited=True
        ),
        "2 processes, killed twice": lambda place: killed_twice(source, place, *flags, "--shards.workers", "2"),
        "2 datatrove nodes": lambda place: two_nodes(source, place, *flags, "--shards.workers", "1"),
        "Ray, 2 workers": lambda place: run(
            source, place, *flags, "--shards.workers", "2", "--engine.kind", "ray", "--engine.tasks", "4"
        ),
    }.items():
        ways[name] = {**way(to / f"way-{len(ways)}"), "hashes": hashes(to / f"way-{len(ways)}")}
    print("| way | seconds | all processes at the most | largest process | manifest | files' sha256 |")
    print("|---|---|---|---|---|---|")
    for name, way in ways.items():
        memory = [f"{way[key] / 2**20:,.0f} MiB" if way[key] else "" for key in ("peak", "largest")]
        sums = " ".join(value[:6] for value in way["hashes"].values())
        print(f"| {name} | {way['seconds']:.1f} | {' | '.join(memory)} | {way['id'][:12]} | {sums} |")
    first, *others = ways.values()
    assert all(way["hashes"] == first["hashes"] and way["id"] == first["id"] for way in others)
    known = ways["2 processes, killed twice"]["known"]
    print(f"\nAll alike. The killed one knew {known[0]} parts at the first kill and {known[1]} at the second.")
    tokens = {name: split["tokens"] for name, split in first["splits"].items()}
    print(f"Tokens: {tokens}; documents kept: {first['documents']['kept']:,}\n")


def altered(text: str, draw: random.Random) -> str:
    """``text`` with one word in a hundred replaced, and its case changed."""
    words = text.split(" ")
    for at in draw.sample(range(len(words)), max(1, len(words) // 100)):
        words[at] = "otherwise"
    return " ".join(words).upper()


def planted(texts: list[str], hellaswag: Path, to: Path) -> None:
    draw = random.Random(0)
    long = [text for text in texts if len(text) > CHARACTERS]
    chosen = draw.sample(long, 2 * PLANTED)
    copies, near = chosen[:PLANTED], [altered(text, draw) for text in chosen[PLANTED:]]
    items = [json.loads(line) for line in hellaswag.read_text(encoding="utf-8").splitlines()]
    holding = []
    for item, text in zip(draw.sample(items, PLANTED), draw.sample(long, PLANTED), strict=True):
        right = f"{item['ctx']} {item['endings'][int(item['label'])]}"
        lines = text.split("\n")
        lines.insert(len(lines) // 2, right.upper() if draw.random() < 0.5 else right.replace(" ", "\n"))
        holding.append("\n".join(["A page of its own."] * 30 + lines[len(lines) // 3 :]))
    mixed = [*texts, *copies, *near, *holding]
    draw.shuffle(mixed)
    write_parquet(mixed, to / "planted")
    flags = ["--quality.duplicates", "near", "--source.decontaminate", f"hellaswag={hellaswag}"]
    answer = run(to / "planted", to / "clean", *flags, "--shards.workers", "2")
    plain = run(to / "novels", to / "plain", *flags, "--shards.workers", "2")
    print("| | passages | planted copies | near-copies | with items | dropped: copies | near | items | kept |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, found, count in (("as they are", plain, 0), ("planted", answer, PLANTED)):
        dropped = {entry["step"] + ": " + entry["reason"]: entry["documents"] for entry in found["quality"]["dropped"]}
        by = [sum(v for k, v in dropped.items() if mark in k) for mark in (": duplicate", "near-dup", "contamination")]
        cells = [name, f"{len(texts):,}", *[count] * 3, *by, f"{found['quality']['kept']:,}"]
        print(f"| {' | '.join(map(str, cells))} |")
    print(f"\nSeconds: {plain['seconds']:.0f} and {answer['seconds']:.0f}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--hellaswag", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True, help="an empty folder; about 700 MB")
    given = parser.parse_args()
    texts = passages(given.texts)
    write_parquet(texts, given.to / "novels")
    size = sum(path.stat().st_size for path in (given.to / "novels").iterdir())
    print(f"{len(texts):,} passages, {sum(map(len, texts)) / 1e6:.1f} M characters, {size / 1e6:.1f} MB of parquet\n")
    same_shards(given.to / "novels", given.to)
    planted(texts, given.hellaswag, given.to)


if __name__ == "__main__":
    main()
