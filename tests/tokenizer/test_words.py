"""Words: ids in order of frequency, the rare ones unknown, spacing restored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.tokenizer import Tokenizer, TokenizerConfig, count_words, train_tokenizer
from folio.tokenizer.words import words_of


def train(text: str, **config: object) -> Tokenizer:
    return train_tokenizer([text], TokenizerConfig.model_validate({"kind": "word", **config}))


def test_ids_fall_with_the_count_and_ties_stand_in_order_of_occurrence() -> None:
    tokenizer = train("b a c a\nb a d")
    assert [tokenizer.token(id) for id in range(7)] == ["a", "b", "c", "\n", "d", "<unk>", "<|endoftext|>"]
    assert (tokenizer.vocab_size, tokenizer.eot_id) == (7, 6)


def test_every_id_stands_for_one_word_and_back_ties_included(shared_data: Callable[[str], Path]) -> None:
    tokenizer = train(shared_data("tinyshakespeare.txt").read_text(encoding="utf-8"), min_count=3)
    words = [tokenizer.token(id) for id in range(tokenizer.vocab_size)]
    assert len(set(words)) == len(words) == 5_338 + 2
    for id, word in enumerate(words[:-2]):
        assert tokenizer.encode(word) == [id]


def test_rare_and_new_words_are_unknown() -> None:
    tokenizer = train("a a b", min_count=2)
    assert tokenizer.encode("a b z") == [0, 1, 1]
    assert tokenizer.decode([0, 1]) == "a <unk>"


def test_vocab_size_keeps_the_most_frequent() -> None:
    tokenizer = train("c b b a a a", vocab_size=4)
    assert [tokenizer.token(id) for id in range(4)] == ["a", "b", "<unk>", "<|endoftext|>"]


def test_unk_and_end_of_text_in_text_are_words_and_marks() -> None:
    tokenizer = train("< unk > | endoftext")
    assert tokenizer.unk_id not in tokenizer.encode("<unk>")
    assert len(tokenizer.encode("<|endoftext|>")) == 5
    assert tokenizer.encode("<|endoftext|>", allowed_special=True) == [tokenizer.eot_id]


@pytest.mark.parametrize(
    ("min_count", "types"), [(1, 13_332), (2, 7_287), (3, 5_338), (4, 4_289), (5, 3_600), (6, 3_153)]
)
def test_tiny_shakespeare_in_words(shared_data: Callable[[str], Path], min_count: int, types: int) -> None:
    text = shared_data("tinyshakespeare.txt").read_text(encoding="utf-8")
    tokenizer = train(text, min_count=min_count)
    assert tokenizer.vocab_size == types + 2
    assert len(tokenizer.encode_array(text)) == 302_927
    assert (tokenizer.unk_id in tokenizer.encode_array(text)) == (min_count > 1)


def test_counts_add_up_over_texts() -> None:
    assert count_words(["a b\n", "b ."]) == {"a": 1, "b": 2, "\n": 1, ".": 1}


@settings(deadline=None, max_examples=300)
@given(
    st.text(st.characters(max_codepoint=127))
    | st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(" \n\x1c\u0301²₂'"))
)
def test_words_are_cut_as_tokenizer_json_says(word: Tokenizer, text: str) -> None:
    cut = word.backend.pre_tokenizer.pre_tokenize_str(text)
    assert list(words_of(text)) == [token for token, _ in cut]
    assert word.encode(text) == word.backend.encode(text, add_special_tokens=False).ids
