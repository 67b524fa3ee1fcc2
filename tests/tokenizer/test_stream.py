"""Text that streams is the text that decoding gives, and never half a character."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from folio.tokenizer import StreamDecoder, Tokenizer


def streamed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoder = StreamDecoder(tokenizer)
    return [*(decoder.push(id) for id in ids), decoder.flush()]


@settings(deadline=None)
@given(st.data())
def test_any_ids_stream_to_what_decode_gives(
    bpe: Tokenizer, word: Tokenizer, char: Tokenizer, data: st.DataObject
) -> None:
    for tokenizer in (bpe, word, char):
        ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40))
        assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(["king", "Don", "t", "'", '"', ",", ".", "\n", "o", "1", "000", "-", "(", "s"])))
def test_marks_in_any_order_stream_to_what_decode_gives(word: Tokenizer, tokens: list[str]) -> None:
    ids = word.encode("\x20".join(tokens))
    assert "".join(streamed(word, ids)) == word.decode(ids)


def test_a_character_appears_when_its_last_byte_does(bpe: Tokenizer) -> None:
    ids = bpe.encode("🙂!")
    assert streamed(bpe, ids) == ["", "", "", "🙂", "!", ""]


def test_bytes_that_never_become_a_character_are_replaced(bpe: Tokenizer) -> None:
    assert streamed(bpe, [0xF0, 0x9F]) == ["", "", "\ufffd"]
    assert streamed(bpe, [0xF0, ord("a")]) == ["", "\ufffda", ""]


def test_words_come_with_their_space_and_apostrophes_wait(word: Tokenizer) -> None:
    ids = word.encode("king, Don't go")
    assert streamed(word, ids) == ["king", ",", " Don", "", "'t", " go", ""]
    assert streamed(word, word.encode("lovers'")) == ["lovers", "", "'"]


def test_flushing_begins_anew(word: Tokenizer) -> None:
    decoder = StreamDecoder(word)
    (king,) = word.encode("king")
    assert [decoder.push(king), decoder.flush(), decoder.push(king)] == ["king", "", "king"]
