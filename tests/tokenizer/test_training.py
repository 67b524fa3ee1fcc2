"""What training promises: the merges of the rule, the same every time, and a plain word when it cannot be."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from reference_bpe import Pair, train_incrementally, train_naively

from folio.errors import DataError
from folio.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from folio.tokenizer.alphabet import to_printable


def as_merges(pairs: list[Pair]) -> list[tuple[str, str]]:
    """Pairs of ids as pairs of printable tokens."""
    tokens = [bytes([value]) for value in range(256)]
    for left, right in pairs:
        tokens.append(tokens[left] + tokens[right])
    return [(to_printable(tokens[left]), to_printable(tokens[right])) for left, right in pairs]


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    return train_tokenizer(texts, TokenizerConfig(kind="bpe", vocab_size=vocab_size))


@pytest.mark.parametrize("seed", range(20))
def test_merges_equal_the_reference_ties_included(seed: int) -> None:
    draw = random.Random(seed)
    texts = ["".join(draw.choice("aab bc\n'sé1.") for _ in range(200)) for _ in range(3)]
    assert train_bpe(texts, 256 + 30 + 1).merges == as_merges(train_naively(texts, 30))


def test_the_two_references_agree() -> None:
    texts = ["the cat sat on the mat, the cat sat", "aaaa aaa aa that that"]
    assert train_incrementally(texts, 500) == train_naively(texts, 500)


def test_merges_equal_the_reference_on_an_article(shared_data: Callable[[str], Path]) -> None:
    text = shared_data("bts_wikipedia.txt").read_text(encoding="utf-8")
    assert train_bpe([text], 2000).merges == as_merges(train_incrementally([text], 2000 - 257))


def test_cutting_long_texts_changes_no_merge(shared_data: Callable[[str], Path]) -> None:
    text = shared_data("tinyshakespeare.txt").read_text(encoding="utf-8")[:400_000]
    assert train_bpe([text], 1000).merges == as_merges(train_incrementally([text], 1000 - 257))


def test_the_same_texts_give_the_same_tokenizer() -> None:
    texts = ["she sells sea shells", "by the sea shore"]
    assert train_bpe(texts, 270).fingerprint == train_bpe(list(texts), 270).fingerprint


def test_special_tokens_come_after_the_merges_end_of_text_last() -> None:
    config = TokenizerConfig(kind="bpe", vocab_size=262, special_tokens=("<|user|>", "<|bot|>"))
    tokenizer = train_tokenizer(["aaab aaab aaab"], config)
    assert tokenizer.special_ids == {"<|user|>": 259, "<|bot|>": 260, "<|endoftext|>": 261}
    assert (tokenizer.vocab_size, tokenizer.eot_id, len(tokenizer.merges)) == (262, 261, 3)
    assert tokenizer.encode("<|user|>a", allowed_special=True) == [259, ord("a")]


def test_the_smallest_bpe_is_the_bytes() -> None:
    tokenizer = train_bpe(["abc"], 257)
    assert (tokenizer.merges, tokenizer.encode("é")) == ([], list("é".encode()))


def test_a_text_too_short_for_the_vocabulary_says_what_it_gives() -> None:
    with pytest.raises(DataError, match="too short for a vocabulary of 4,096: it gives 259 ids at most"):
        train_tokenizer(["abc"], TokenizerConfig(kind="bpe"))
    with pytest.raises(DataError, match="too short for a vocabulary of 10: it gives 4 ids at most"):
        train_tokenizer(["a b"], TokenizerConfig(kind="word", vocab_size=10))


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_no_text_is_refused(kind: str) -> None:
    with pytest.raises(DataError, match="no text to train a tokenizer on"):
        train_tokenizer(iter(()), TokenizerConfig(kind=kind))
    with pytest.raises(DataError, match="no text to train a tokenizer on"):
        train_tokenizer([""], TokenizerConfig(kind=kind))


def test_texts_are_read_once_as_a_stream() -> None:
    taken: list[int] = []

    def texts() -> Iterator[str]:
        for number in range(500):
            taken.append(number)
            yield "so shaken as we are, so wan with care " * 3

    assert train_bpe(texts(), 270).vocab_size == 270
    assert taken == list(range(500))


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_a_lone_surrogate_in_the_text_is_read_as_the_replacement_character(kind: str) -> None:
    config = TokenizerConfig.model_validate({"kind": kind, "vocab_size": 258 if kind == "bpe" else None})
    tokenizer = train_tokenizer(["a \ud800 b a b"], config)
    assert tokenizer.decode(tokenizer.encode("a \ud800 b")) == "a \ufffd b"
    assert tokenizer.encode_array("a \ud800 b").tolist() == tokenizer.encode("a \ufffd b")


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_what_goes_wrong_while_reading_is_what_is_said(kind: str) -> None:
    def texts() -> Iterator[str]:
        yield "a b a b"
        raise DataError("'x.txt' is not UTF-8", "Convert it.")

    with pytest.raises(DataError, match=r"x\.txt"):
        train_tokenizer(texts(), TokenizerConfig(kind=kind))


def test_a_run_of_white_space_longer_than_the_trainer_can_match_is_no_obstacle() -> None:
    assert train_bpe([" " * 1_200_000 + "a"], 260).vocab_size == 260


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"kind": "char", "vocab_size": 50}, "takes no vocab_size"),
        ({"kind": "gpt2", "special_tokens": ["<a>"]}, "takes no vocab_size and no special_tokens"),
        ({"kind": "bpe", "vocab_size": 256}, "at least 257"),
        ({"kind": "bpe", "min_count": 2}, "belongs to kind 'word'"),
        ({"kind": "word", "min_count": 2, "vocab_size": 9}, "either min_count or vocab_size"),
        ({"path": "x", "vocab_size": 300}, "takes no vocab_size"),
        ({"special_tokens": ["<a>", "<a>"]}, "different from each other"),
    ],
)
def test_a_configuration_says_one_thing(given: dict, fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        TokenizerConfig.model_validate(given)


def test_a_path_is_loaded(bpe: Tokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path / "bpe")
    assert train_tokenizer([], TokenizerConfig(path=tmp_path / "bpe")).fingerprint == bpe.fingerprint
