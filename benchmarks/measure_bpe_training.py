"""Compare byte-level BPE trainers: seconds, memory, and agreement with a reference written in plain Python.

    python benchmarks/measure_bpe_training.py FOLDER_OF_TEXTS [--megabytes 50] [--vocab-size 32768] [--rounds 3]

Each run is a process of its own, in rounds that take every trainer once, so that a slow minute of the machine falls on
all of them; the reference runs in the first round only. Seconds and memory are of training alone: the texts are in
memory before the clock starts. ``bpeasy`` is not a dependency of Folio: ``pip install bpeasy`` first. Prints a
Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "tokenizer"))

from folio.tokenizer.patterns import GPT2_PATTERN, GPT2_TIKTOKEN_PATTERN
from folio.tokenizer.pieces import pieces


def read_texts(folder: Path, megabytes: int) -> list[str]:
    """The first ``megabytes`` of the folder's .txt files in order of name, in pieces of some 100,000 characters."""
    texts: list[str] = []
    left = megabytes * 1_000_000
    for file in sorted(folder.rglob("*.txt")):
        raw = file.read_bytes()[:left]
        left -= len(raw)
        texts += pieces(raw.decode("utf-8", errors="ignore"), 100_000)
        if not left:
            break
    return texts


def with_rustbpe(texts: list[str], vocab_size: int) -> list[bytes]:
    import rustbpe

    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(iter(texts), vocab_size, buffer_size=64, pattern=GPT2_TIKTOKEN_PATTERN)
    return [bytes(token) for token, _ in trainer.get_mergeable_ranks()]


def with_folio(texts: list[str], vocab_size: int) -> list[bytes]:
    from folio.tokenizer import TokenizerConfig, train_tokenizer

    tokenizer = train_tokenizer(texts, TokenizerConfig(kind="bpe", vocab_size=vocab_size + 1))  # and end-of-text
    return [tokenizer.token_bytes(id) for id in range(vocab_size)]


def with_bpeasy(texts: list[str], vocab_size: int) -> list[bytes]:
    import bpeasy

    ranks = bpeasy.train_bpe(iter(texts), GPT2_PATTERN, 10_000, vocab_size, batch_size=64)
    return sorted(ranks, key=lambda token: ranks[token])


def with_huggingface(texts: list[str], vocab_size: int) -> list[bytes]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    from folio.tokenizer.alphabet import BYTE_OF

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    vocab = tokenizer.get_vocab()
    return [bytes(BYTE_OF[char] for char in token) for token in sorted(vocab, key=lambda token: vocab[token])]


def with_reference(texts: list[str], vocab_size: int) -> list[bytes]:
    from reference_bpe import train_incrementally

    tokens = [bytes([value]) for value in range(256)]
    for left, right in train_incrementally(texts, vocab_size - 256):
        tokens.append(tokens[left] + tokens[right])
    return tokens


TRAINERS: dict[str, Callable[[list[str], int], list[bytes]]] = {
    "rustbpe": with_rustbpe,
    "folio (rustbpe, merges, tokenizer.json)": with_folio,
    "bpeasy": with_bpeasy,
    "huggingface": with_huggingface,
    "reference": with_reference,
}


def run_one(name: str, folder: Path, megabytes: int, vocab_size: int) -> None:
    """Train once and print one JSON object; the parent process reads it."""
    texts = read_texts(folder, megabytes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, start_cpu = time.perf_counter(), time.process_time()
    tokens = TRAINERS[name](texts, vocab_size)
    elapsed_s, processor_s = time.perf_counter() - start, time.process_time() - start_cpu
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "elapsed_s": elapsed_s,
                "processor_s": processor_s,
                "added_memory_bytes": (after - before) * 1024,
                "text_bytes": sum(len(text.encode()) for text in texts),
                "merges": [token.hex() for token in tokens[256:]],
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--vocab-size", type=int, default=32_768)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=TRAINERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        run_one(args.one, args.folder, args.megabytes, args.vocab_size)
        return
    results: dict[str, list[dict]] = {name: [] for name in TRAINERS}
    for round_number in range(args.rounds):
        for name in TRAINERS:
            if name == "reference" and round_number:
                continue  # slow, and not in the race
            answer = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--one", name], capture_output=True, text=True, check=True
            )
            results[name].append(json.loads(answer.stdout))
            print(f"{name}: {results[name][-1]['elapsed_s']:.2f} s", file=sys.stderr)
    expected = results["reference"][0]["merges"]
    print(f"{results['reference'][0]['text_bytes']:,} bytes, {args.vocab_size:,} ids, {os.cpu_count()} cores\n")
    print("| trainer | seconds (median, all) | processor s | added memory, MB | tokens of the reference | same up to |")
    print("|---|---|---|---|---|---|")
    for name, runs in results.items():
        made = runs[0]["merges"]
        assert all(run["merges"] == made for run in runs) or name == "huggingface", f"{name} is not deterministic"
        pairs = zip(made, expected, strict=False)
        same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(made), len(expected)))
        seconds = sorted(run["elapsed_s"] for run in runs)
        processor = statistics.median(run["processor_s"] for run in runs)
        memory = statistics.median(run["added_memory_bytes"] for run in runs) / 1e6
        print(
            f"| {name} | {statistics.median(seconds):.2f} ({', '.join(f'{s:.2f}' for s in seconds)}) "
            f"| {processor:.2f} | {memory:.0f} "
            f"| {len(set(made) & set(expected)):,} of {len(expected):,} | {same:,} |"
        )


if __name__ == "__main__":
    main()
