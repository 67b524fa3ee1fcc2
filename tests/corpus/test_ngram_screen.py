"""The quick search finds exactly what the index finds, in any text; and words are found again where they stand."""

from __future__ import annotations

import pickle
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.corpus import ngram_screen
from folio.corpus.ngram_screen import NgramScreen
from folio.corpus.ngrams import NgramIndex, words_of
from folio.corpus.word_places import _PIECE, word_places

CHARACTERS = st.sampled_from("aábBéßı'’`-.,;:=<>! \n\t\u00a0\u3000\u0301\u0338\u200d\u00ad\ud800🙂。，中ไ")
TEXTS = st.text(st.one_of(CHARACTERS, st.characters()), max_size=300)


def by_index(index: NgramIndex, text: str) -> list[list[int]]:
    return [found.tolist() for found in index.find(index.encode(words_of(text)))]


@pytest.mark.parametrize("block_bytes", [1, 7, 64, 1 << 18])
@pytest.mark.parametrize("seed", range(10))
def test_finds_what_the_index_finds_whatever_the_blocks(
    seed: int, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngram_screen, "BLOCK_BYTES", block_bytes)
    draw = random.Random(seed)
    vocabulary = ["a", "b", "ab", "Été", "cab", "x" * 40]

    def text(most: int) -> str:
        marks = [" ", " ", "  ", ", ", "\n\n", "\u2014", " \u2018"]
        return "".join(draw.choice(vocabulary) + draw.choice(marks) for _ in range(draw.randint(0, most)))

    items = [[text(12) for _ in range(draw.randint(1, 3))] for _ in range(draw.randint(1, 8))]
    index = NgramIndex(items, draw.randint(1, 7), draw.randint(1, 5))
    screen = NgramScreen(index)
    for searched in (text(400), text(400), text(3), "", "\n", items[0][0], "- a"):
        assert [found.tolist() for found in screen.find(searched)] == by_index(index, searched)


@given(TEXTS, TEXTS, st.integers(1, 4))
def test_finds_what_the_index_finds_in_any_text(item: str, around: str, n: int) -> None:
    index = NgramIndex([[item], [around]], n, 1)
    text = f"{around} {item}\n{around}"
    assert [found.tolist() for found in NgramScreen(index).find(text)] == by_index(index, text)


def test_an_index_that_was_sent_to_another_process_finds_the_same() -> None:
    index = NgramIndex([["to be or not to be"], ["that is"]], n=3, min_words=2)
    text = "To be, or not to be: that is the question. To be or"
    copy = pickle.loads(pickle.dumps(index))
    assert by_index(copy, text) == by_index(index, text) != [[], []]


@given(TEXTS)
def test_every_word_is_placed_in_the_piece_that_holds_it(text: str) -> None:
    """The words of the pieces are those of the whole, and the places are those pieces'."""
    words = words_of(text)
    pieces = [(piece.span(), word) for piece in re.finditer(_PIECE, text) for word in words_of(piece[0])]
    assert [word for _, word in pieces] == words
    assert word_places(text, range(len(words))) == {number: span for number, (span, _) in enumerate(pieces)}


def test_words_far_into_a_text_are_placed() -> None:
    text = "".join(f"w{number}, " for number in range(30_000))
    for number, (start, stop) in word_places(text, [0, 999, 29_999]).items():
        assert text[start:stop] == f"w{number}"
