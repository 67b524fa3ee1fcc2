"""Compare the speed of encoding with GPT-2's vocabulary: raw tiktoken, Folio, Hugging Face ``tokenizers``.

    python benchmarks/measure_encoding.py FOLDER_OF_TEXTS [--megabytes 20] [--rounds 3]

One thread, one document a call, rounds that take every encoder once. Raw tiktoken is ``encode_ordinary`` of an
``Encoding`` with tiktoken's own pattern; "+ array" adds what a corpus needs, the ids as uint16. Ids are compared first.
Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tiktoken

from folio.tokenizer import gpt2_tokenizer
from folio.tokenizer.alphabet import to_bytes
from folio.tokenizer.patterns import GPT2_TIKTOKEN_PATTERN


def read_documents(folder: Path, megabytes: int) -> list[str]:
    """Whole .txt files in order of name until ``megabytes`` are reached."""
    documents: list[str] = []
    read = 0
    for file in sorted(folder.rglob("*.txt")):
        documents.append(file.read_text(encoding="utf-8"))
        read += len(documents[-1].encode())
        if read >= megabytes * 1_000_000:
            break
    return documents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-hugging-face", action="store_true", help="it takes most of the time")
    args = parser.parse_args()
    documents = read_documents(args.folder, args.megabytes)
    megabytes = sum(len(document.encode()) for document in documents) / 1e6

    folio = gpt2_tokenizer()
    ranks = {to_bytes(folio.token(id)): id for id in range(50_256)}
    raw = tiktoken.Encoding(
        "gpt2", pat_str=GPT2_TIKTOKEN_PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50_256}
    )
    encoders: dict[str, Callable[[str], object]] = {
        "raw tiktoken": raw.encode_ordinary,
        "raw tiktoken + array": lambda text: np.array(raw.encode_ordinary(text), dtype=np.uint16),
        "folio encode": folio.encode,
        "folio encode_array": folio.encode_array,
    }
    if not args.without_hugging_face:
        encoders["tokenizers"] = lambda text: folio.backend.encode(text, add_special_tokens=False).ids
    sample = documents[0][:200_000]
    ids = raw.encode_ordinary(sample)
    assert all(list(encode(sample)) == ids for encode in encoders.values()), "ids differ"

    rates: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(args.rounds):
        for name, encode in encoders.items():
            start = time.process_time()
            for document in documents:
                encode(document)
            rates[name].append(megabytes / (time.process_time() - start))
    base = statistics.median(rates["raw tiktoken"])
    print(f"{megabytes:.1f} MB in {len(documents)} documents, one thread, per second of processor time\n")
    print("| encoder | MB/s (median, all) | ratio to raw tiktoken |")
    print("|---|---|---|")
    for name, found in rates.items():
        median = statistics.median(found)
        print(f"| {name} | {median:.1f} ({', '.join(f'{rate:.1f}' for rate in sorted(found))}) | {median / base:.2f} |")


if __name__ == "__main__":
    main()
