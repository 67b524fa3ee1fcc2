"""Characters: every one of the text, in order, and a plain word about any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from folio.errors import DataError
from folio.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer


def train(text: str) -> Tokenizer:
    return train_tokenizer([text], TokenizerConfig(kind="char"))


def test_ids_are_the_sorted_characters_then_end_of_text() -> None:
    tokenizer = train("ba\n a")
    assert [tokenizer.token(id) for id in range(5)] == ["\n", " ", "a", "b", "<|endoftext|>"]
    assert (tokenizer.vocab_size, tokenizer.eot_id) == (5, 4)


def test_combining_characters_are_characters_of_their_own(char: Tokenizer) -> None:
    ids = char.encode("e\u0301é🙂\r\n")
    assert len(ids) == 6
    assert char.decode(ids) == "e\u0301é🙂\r\n"
    assert char.encode_array("e\u0301é🙂\r\n").tolist() == ids


def test_every_id_stands_for_one_character_and_back(char: Tokenizer) -> None:
    for id in range(char.vocab_size - 1):
        assert char.encode(char.decode([id])) == [id]
    assert char.decode([char.eot_id]) == "<|endoftext|>"


@pytest.mark.parametrize("encode", ["encode", "encode_array"])
def test_a_character_it_lacks_is_named(encode: str) -> None:
    with pytest.raises(DataError, match=r"no 'ß' \(U\+00DF LATIN SMALL LETTER SHARP S\), met at character 1") as caught:
        getattr(train("abc"), encode)("aßc")
    assert "train the tokenizer on text that has it" in caught.value.remedy


def test_a_special_token_in_text_is_its_characters() -> None:
    tokenizer = train("<|endoftx>")
    assert len(tokenizer.encode("<|endoftext|>")) == len("<|endoftext|>")
    assert tokenizer.encode("e<|endoftext|>", allowed_special=True) == [tokenizer.id_of("e"), tokenizer.eot_id]


def test_tiny_shakespeare_has_65_characters(shared_data: Callable[[str], Path]) -> None:
    text = shared_data("tinyshakespeare.txt").read_text(encoding="utf-8")
    tokenizer = train(text)
    assert tokenizer.vocab_size == 65 + 1
    assert tokenizer.decode(tokenizer.encode_array(text)) == text
