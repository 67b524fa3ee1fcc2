"""Tiny Shakespeare by characters to a validation loss of 1.88, whole processes: Folio beside nanoGPT's README setting.

    python benchmarks/measure_char.py --nanogpt PATH/TO/nanoGPT --text tinyshakespeare.txt [--rounds 3]

Everything is counted: start-up, data preparation (Folio's; nanoGPT's is done before), training, evaluation, saving.
Folio starts each time from an empty cache.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

# nanoGPT's README, "I only have a macbook": its CPU setting.
NANOGPT = [
    "config/train_shakespeare_char.py",
    "--device=cpu",
    "--compile=False",
    "--eval_iters=20",
    "--log_interval=1",
    "--block_size=64",
    "--batch_size=12",
    "--n_layer=4",
    "--n_head=4",
    "--n_embd=128",
    "--max_iters=2000",
    "--lr_decay_iters=2000",
    "--dropout=0.0",
]


def run_nanogpt(checkout: Path) -> tuple[float, float]:
    """Seconds and its own last validation loss (20 batches of 12 x 64)."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "train.py", *NANOGPT], cwd=checkout, capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - start
    losses = [line.split("val loss")[1] for line in done.stdout.splitlines() if "val loss" in line]
    return seconds, float(losses[-1])


def run_folio(text: Path) -> tuple[float, float]:
    """Seconds and the loss over the whole validation text."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "folio", "train", "tiny-shakespeare-char-fast", "--json"]
        command += ["--corpus.from-file", str(text), "--out", f"{scratch}/run"]
        start = time.perf_counter()
        done = subprocess.run(
            command, env={**os.environ, "FOLIO_CACHE": f"{scratch}/cache"}, capture_output=True, text=True, check=True
        )
        seconds = time.perf_counter() - start
        return seconds, json.loads(done.stdout)["validation"]["nats_per_token"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout of nanoGPT")
    parser.add_argument("--text", type=Path, required=True, help="Tiny Shakespeare")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    data = options.nanogpt / "data" / "shakespeare_char"
    shutil.copy(options.text, data / "input.txt")
    subprocess.run([sys.executable, str(data / "prepare.py")], check=True, capture_output=True)
    times: dict[str, list[float]] = {"nanoGPT": [], "folio": []}
    for number in range(options.rounds):
        for name, one in (
            ("nanoGPT", lambda: run_nanogpt(options.nanogpt)),
            ("folio", lambda: run_folio(options.text)),
        ):
            seconds, loss = one()
            times[name].append(seconds)
            print(f"round {number + 1}: {name:8} {seconds:6.1f} s, validation {loss:.4f} nats/character", flush=True)
    print(f"\nmedian: nanoGPT {median(times['nanoGPT']):.1f} s, folio {median(times['folio']):.1f} s, ", end="")
    print(f"ratio {median(times['nanoGPT']) / median(times['folio']):.2f}")


if __name__ == "__main__":
    main()
