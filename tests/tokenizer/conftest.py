"""Small tokenizers of every kind, GPT-2's own, and the same folders as ``transformers`` loads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from play import PLAY

from folio.errors import Unreachable
from folio.tokenizer import Tokenizer, TokenizerConfig, gpt2_tokenizer, train_tokenizer


@pytest.fixture(scope="session")
def bpe() -> Tokenizer:
    return train_tokenizer([PLAY] * 3, TokenizerConfig(kind="bpe", vocab_size=340))


@pytest.fixture(scope="session")
def word() -> Tokenizer:
    return train_tokenizer([PLAY], TokenizerConfig(kind="word"))


@pytest.fixture(scope="session")
def char() -> Tokenizer:
    return train_tokenizer([PLAY, "e\u0301 café \t\r\f\v 日本 🙂"], TokenizerConfig(kind="char"))


@pytest.fixture(scope="session")
def gpt2() -> Tokenizer:
    try:
        return gpt2_tokenizer()
    except Unreachable as error:
        pytest.skip(f"GPT-2's vocabulary cannot be fetched here: {error.problem}")


@pytest.fixture
def every_kind(bpe: Tokenizer, word: Tokenizer, char: Tokenizer) -> list[Tokenizer]:
    return [bpe, word, char]


@pytest.fixture
def in_transformers(tmp_path: Path) -> Callable[[Tokenizer], Any]:
    """``in_transformers(tokenizer)``: what ``AutoTokenizer`` makes of its saved folder."""
    transformers = pytest.importorskip("transformers")

    def load(tokenizer: Tokenizer) -> Any:
        folder = tmp_path / f"{tokenizer.kind}-{tokenizer.fingerprint[:8]}"
        tokenizer.save(folder)
        return transformers.AutoTokenizer.from_pretrained(folder)

    return load
