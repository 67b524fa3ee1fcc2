"""Byte-level BPE: nothing is unknown, nothing is lost, and tiktoken and ``tokenizers`` give the same ids."""

from __future__ import annotations

import pickle
import time

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.errors import DataError
from folio.tokenizer import Tokenizer
from folio.tokenizer.alphabet import BYTE_OF, CHAR_OF
from folio.tokenizer.byte_level import SHORT_CHARACTERS
from folio.tokenizer.patterns import TIKTOKEN_PATTERNS
from folio.tokenizer.pieces import pieces

UNICODE = st.text(st.characters(exclude_categories=["Cs"]))
PROSE = st.text(st.sampled_from("ab '\"sé.,1\n\t  \u0301🙂ll"))


@settings(deadline=None)
@given(UNICODE)
def test_any_unicode_round_trips(bpe: Tokenizer, text: str) -> None:
    assert bpe.decode(bpe.encode(text)) == text


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_round_trip(bpe: Tokenizer, raw: bytes) -> None:
    ids = [bpe.id_of(CHAR_OF[byte]) for byte in raw]
    assert bpe.decode_bytes(ids) == raw
    assert bpe.decode(ids) == raw.decode("utf-8", errors="replace")


@settings(deadline=None)
@given(PROSE | UNICODE)
def test_tiktoken_and_tokenizers_give_the_same_ids(bpe: Tokenizer, text: str) -> None:
    assert bpe.tiktoken_encoding is not None
    ids = bpe.encode(text)
    assert ids == bpe.backend.encode(text, add_special_tokens=False).ids
    assert bpe.encode_array(text).tolist() == ids


def test_the_alphabet_writes_every_byte_as_itself() -> None:
    assert len(BYTE_OF) == 256
    assert (CHAR_OF[ord("A")], CHAR_OF[ord(" ")], CHAR_OF[255]) == ("A", "Ġ", "ÿ")


def test_every_byte_has_a_token_the_last_one_too(bpe: Tokenizer) -> None:
    assert [bpe.token_bytes(id) for id in range(256)] == [bytes([byte]) for byte in range(256)]


def test_every_id_stands_for_one_token_and_back(bpe: Tokenizer) -> None:
    tokens = [bpe.token(id) for id in range(bpe.vocab_size)]
    assert [bpe.id_of(token) for token in tokens] == list(range(bpe.vocab_size))
    assert len({bpe.token_bytes(id) for id in range(bpe.vocab_size)}) == bpe.vocab_size


def test_merges_are_applied(bpe: Tokenizer) -> None:
    assert len(bpe.encode("know't")) < len("know't")


def test_a_special_token_in_text_is_text_unless_allowed(bpe: Tokenizer) -> None:
    text = "a<|endoftext|>b"
    plain, allowed = bpe.encode(text), bpe.encode(text, allowed_special=True)
    assert bpe.eot_id not in plain
    assert bpe.eot_id not in bpe.encode_array(text)
    assert allowed == [*bpe.encode("a"), bpe.eot_id, *bpe.encode("b")]
    assert bpe.decode(plain) == bpe.decode(allowed) == text


def test_ids_fit_the_array_type(bpe: Tokenizer) -> None:
    array = bpe.encode_array("We know't")
    assert array.dtype == np.uint16
    assert bpe.encode_array("").shape == (0,)
    assert bpe.decode(array) == "We know't"


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_arrays_and_lists_agree_about_the_length_up_to_which_text_is_encoded_in_one_call(
    bpe: Tokenizer, over: int
) -> None:
    text = ("We know't, Cæsar. " * (SHORT_CHARACTERS // 18 + 1))[: SHORT_CHARACTERS + over]
    assert len(text) == SHORT_CHARACTERS + over
    assert bpe.encode_array(text).tolist() == bpe.encode(text)


def test_an_id_beyond_the_vocabulary_is_refused(bpe: Tokenizer) -> None:
    with pytest.raises(DataError, match="id 340 is not in the vocabulary"):
        bpe.decode([65, 340])
    with pytest.raises(DataError, match="id -1 is not in the vocabulary"):
        bpe.decode([-1])


def test_a_lone_surrogate_becomes_the_replacement_character(bpe: Tokenizer) -> None:
    assert bpe.decode(bpe.encode("a\ud800b")) == "a\ufffdb"
    assert bpe.decode(bpe.encode_array("a\ud800b")) == "a\ufffdb"


@pytest.mark.parametrize("unit", ["a", " ", "\n", "^", "é", "ab "])
def test_encoding_ends_on_a_million_repetitions(bpe: Tokenizer, unit: str) -> None:
    text = unit * 1_000_000 + "a"
    start = time.monotonic()
    assert bpe.decode(bpe.encode_array(text)) == text
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("pattern", TIKTOKEN_PATTERNS)
@settings(max_examples=300)
@given(text=PROSE, size=st.integers(1, 20))
def test_pieces_add_up_to_the_text_and_cut_no_pre_token(pattern: str, text: str, size: int) -> None:
    parts = list(pieces(text, size))
    assert "".join(parts) == text
    assert [word for part in parts for word in regex.findall(pattern, part)] == regex.findall(pattern, text)


@settings(max_examples=300)
@given(PROSE | UNICODE)
def test_patterns_for_tiktoken_cut_alike_and_leave_nothing_out(text: str) -> None:
    for pattern, for_tiktoken in TIKTOKEN_PATTERNS.items():
        cut = regex.findall(for_tiktoken, text)
        assert "".join(cut) == text
        assert cut == regex.findall(pattern, text)


def test_a_tokenizer_travels_to_another_process(every_kind: list[Tokenizer]) -> None:
    for tokenizer in every_kind:
        copy = pickle.loads(pickle.dumps(tokenizer))
        assert copy.fingerprint == tokenizer.fingerprint
        assert copy.encode("We know") == tokenizer.encode("We know")
