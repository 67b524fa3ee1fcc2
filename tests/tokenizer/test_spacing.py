"""Spacing around words and marks as ordinary English has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from folio.tokenizer import TokenizerConfig, train_tokenizer


def restored(text: str) -> str:
    tokenizer = train_tokenizer([text], TokenizerConfig(kind="word"))
    return tokenizer.decode(tokenizer.encode(text))


@pytest.mark.parametrize(
    "text",
    [
        "Hello, world!\nROMEO: don't",
        "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.",
        "We know't, we know't; love's labour's lost.",
        "'Tis he: 'twas o'er the well-known sea, ne'er more.",
        "O'Brien, D'Artagnan and I'll go i' the morning o' the day.",
        "the lovers' vows, and kings' crowns",
        'He said, "Come here," and "go." Then:\n"Yes," she (the queen) said.',
        'one "quote and\n"another" line',
        "It is 12:30, pi is 3.14, and 1,000 is many; 1, 2, 3.",
        "away--away! fare-thee-well",
        "a [b] {c} $5 and 7%",
        "“Curly,” she said: ‘quite.’ It’s so…",
        "\ttabbed\tline\n\n\nthird",
        "tell 'em, give 'em all",
    ],
)
def test_ordinary_text_comes_back_as_it_was(text: str) -> None:
    assert restored(text) == text


def test_end_of_text_has_no_spaces_around_it() -> None:
    tokenizer = train_tokenizer(["a b"], TokenizerConfig(kind="word"))
    assert tokenizer.decode([0, tokenizer.eot_id, 1]) == "a<|endoftext|>b"


def test_99_of_100_lines_of_shakespeare_come_back_as_they_were(shared_data: Callable[[str], Path]) -> None:
    lines = shared_data("tinyshakespeare.txt").read_text(encoding="utf-8").split("\n")
    again = restored("\n".join(lines)).split("\n")
    assert len(again) == len(lines)
    same = sum(old == new for old, new in zip(lines, again, strict=True))
    assert same / len(lines) > 0.99
