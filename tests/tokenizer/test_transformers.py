"""Every kind loads in ``transformers`` with the same ids, the same text and the right special tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from play import PLAY

from folio.tokenizer import Tokenizer

Load = Callable[[Tokenizer], Any]


def test_ids_and_text_are_the_same(every_kind: list[Tokenizer], in_transformers: Load) -> None:
    for tokenizer in every_kind:
        theirs = in_transformers(tokenizer)
        ids = tokenizer.encode(PLAY)
        assert theirs(PLAY)["input_ids"] == theirs.encode(PLAY, add_special_tokens=False) == ids
        assert theirs.decode(ids) == tokenizer.decode(ids)
        assert len(theirs) == tokenizer.vocab_size
        assert theirs.convert_ids_to_tokens(list(range(len(theirs)))) == [
            tokenizer.token(i) for i in range(len(theirs))
        ]


def test_special_tokens_are_the_right_ones(every_kind: list[Tokenizer], in_transformers: Load) -> None:
    unknown = {"bpe": "<|endoftext|>", "word": "<unk>", "char": None}
    for tokenizer in every_kind:
        theirs = in_transformers(tokenizer)
        assert theirs.eos_token == theirs.bos_token == "<|endoftext|>"
        assert theirs.eos_token_id == tokenizer.eot_id
        assert theirs.unk_token == unknown[tokenizer.kind]
        assert theirs.encode("We<|endoftext|>know") == tokenizer.encode("We<|endoftext|>know", allowed_special=True)


def test_nothing_is_cleaned_up(bpe: Tokenizer, in_transformers: Load) -> None:
    theirs = in_transformers(bpe)
    assert theirs.decode(bpe.encode("a , b . do n't  x")) == "a , b . do n't  x"


def test_words_decode_alike_in_any_order(word: Tokenizer, in_transformers: Load) -> None:
    theirs = in_transformers(word)
    for start in range(0, word.vocab_size, 7):
        ids = [(start * step + step) % word.vocab_size for step in range(30)]
        assert theirs.decode(ids) == word.decode(ids)


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "qwen3"])
def test_a_model_folder_gives_the_same_tokenizer(every_kind: list[Tokenizer], tmp_path: Path, model_type: str) -> None:
    transformers = pytest.importorskip("transformers")
    for tokenizer in every_kind:
        folder = tmp_path / tokenizer.kind
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
        tokenizer.save_into(folder)
        assert sorted(path.name for path in folder.iterdir()) == [
            *("config.json", "tokenizer.json", "tokenizer_config.json")
        ]
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        ids = tokenizer.encode(PLAY)
        assert theirs.encode(PLAY, add_special_tokens=False) == ids
        assert theirs.decode(ids) == tokenizer.decode(ids)


def test_gpt2_is_gpt2(gpt2: Tokenizer, in_transformers: Load) -> None:
    theirs = in_transformers(gpt2)
    assert theirs.encode(PLAY) == gpt2.encode(PLAY)
    assert (len(theirs), theirs.eos_token_id, theirs.unk_token_id) == (50_257, 50_256, 50_256)


def test_a_character_that_is_missing_is_an_error_there_too(char: Tokenizer, in_transformers: Load) -> None:
    theirs = in_transformers(char)
    with pytest.raises(Exception, match="UNK"):
        theirs.encode("ß")


def test_special_tokens_stay_text_there_when_told_so(bpe: Tokenizer, in_transformers: Load) -> None:
    theirs = in_transformers(bpe)
    text = "a<|endoftext|>b"
    assert theirs.encode(text, split_special_tokens=True) == bpe.encode(text)
