"""A real, small tokenizer for these tests: every byte is an id, 256 is end-of-text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from folio.corpus.document import Document
from folio.shards import Shards, write_shards
from folio.shards.config import ShardsConfig


@dataclass(frozen=True)
class ByteTokenizer:
    vocab_size: int = 257
    eot_id: int | None = 256
    kind: str = "byte"
    prefix: str = ""
    seconds_per_call: float = 0.0

    @property
    def fingerprint(self) -> str:
        return f"bytes-{self.vocab_size}-{self.prefix}"

    def encode_array(self, text: str) -> NDArray[np.int64]:
        time.sleep(self.seconds_per_call)
        return np.frombuffer((self.prefix + text).encode(), dtype=np.uint8).astype(np.int64)

    def token_bytes(self, id: int) -> bytes:
        return bytes([id]) if id < 256 else b"<|endoftext|>"


def documents(*texts: str) -> Callable[[], Iterable[Document]]:
    return lambda: (Document(f"d{index}", text, "here") for index, text in enumerate(texts))


def words(count: int, seed: int = 0) -> str:
    """About six characters a word; a line feed now and then."""
    letters = np.random.default_rng(seed).integers(ord("a"), ord("z") + 1, size=(count, 6), dtype=np.uint8)
    letters[:, 5] = ord(" ")
    letters[::17, 5] = ord("\n")
    return letters.tobytes().decode()


def many_documents(count: int, words_each: int = 40_000, first: int = 0) -> Iterator[Document]:
    """Documents of about 240 kB, all different, made as they are asked for."""
    return (Document(f"d{n}", words(words_each, n), "here") for n in range(first, first + count))


def tiny_shards(to: Path, train: int = 1000, val: int = 100, per_shard: int = 300) -> Shards:
    """``train`` and ``val`` ids (end-of-text among them), the ids of train being 256, 0, 1, 2, ... modulo 128."""
    count_up = "".join(chr(n % 128) for n in range(train - 1))
    return write_shards(
        {"train": documents(count_up), "val": documents("v" * (val - 1))},
        ByteTokenizer(),
        to,
        ShardsConfig(tokens_per_shard=per_shard, workers=1),
        source={"name": "count"},
    )
