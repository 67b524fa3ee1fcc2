"""Every gram that is there is found, and no other: against a search by brute force."""

from __future__ import annotations

import random

import numpy as np
import pytest

from folio.corpus.ngrams import NgramIndex, words_of


def found_in(index: NgramIndex, text: str) -> list[tuple[int, str]]:
    places, grams = index.find(index.encode(words_of(text)))
    return [(int(place), index.words(int(gram))) for place, gram in zip(places, grams, strict=True)]


def grams_by_definition(text: str, n: int, min_words: int) -> set[str]:
    """The distinct grams of a text, written with spaces."""
    words = text.split()
    length = min(n, len(words))
    if length < min(min_words, n):
        return set()
    return {" ".join(words[at : at + length]) for at in range(len(words) - length + 1)}


def found_by_definition(grams: set[str], words: list[str]) -> list[tuple[int, str]]:
    """At every word, every gram that stands there."""
    cut = {gram: gram.split() for gram in grams}
    return sorted(
        (at, gram) for at in range(len(words)) for gram, own in cut.items() if words[at : at + len(own)] == own
    )


@pytest.mark.parametrize("hash_bits", [1, 4, 64])
@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_brute_force_however_many_hashes_collide(seed: int, hash_bits: int) -> None:
    draw = random.Random(seed)
    letters = "abc"[: draw.randint(2, 3)]

    def text(most: int) -> str:
        return " ".join(draw.choices(letters, k=draw.randint(0, most)))

    items = [[text(12) for _ in range(draw.randint(1, 3))] for _ in range(draw.randint(1, 12))]
    n, min_words = draw.randint(1, 7), draw.randint(1, 5)
    index = NgramIndex(items, n, min_words, hash_bits)
    wanted = [grams_by_definition(text, n, min_words) for texts in items for text in texts]
    assert index.grams == len(set().union(*wanted))
    assert index.grams_of_texts().tolist() == list(map(len, wanted))
    assert index.text_items.tolist() == [item for item, texts in enumerate(items) for _ in texts]
    for text_number, grams in enumerate(wanted):
        own = index.pair_grams[index.pair_texts == text_number]
        assert sorted(map(index.words, own.tolist())) == sorted(grams)
    searched = text(300) + " d " + text(300)
    assert sorted(found_in(index, searched)) == found_by_definition(set().union(*wanted), searched.split())


def test_hashes_are_only_where_to_look() -> None:
    """With one bit of hash half of all places are candidates; none of them is a hit."""
    index = NgramIndex([["a b c d"]], n=3, hash_bits=1)
    words = ["a", "b", "d", "c", "a", "c", "b", "d", "b", "c", "a", "d", "a", "a", "b", "b", "c", "c", "d", "d"]
    assert found_in(index, " ".join(words * 20)) == []
    assert found_in(index, " ".join([*words, "b", "c", "d"])) == [(len(words), "b c d")]


@pytest.mark.parametrize(
    "other",
    [
        "it’s 3 o'clock; the CAFÉ (near the Straße) opens",
        "It's 3 O’Clock -- the cafe\u0301,near\n\n the\tSTRASSE... opens!!",
        "“it's” 3 o'clock: the_café, ‘near the stras\u00adse’ [opens]",
        "\ufeffit’s   3 o`clock—the—café near\u00a0the straße\u3000opens",
    ],
)
def test_case_punctuation_white_space_and_unicode_forms_do_not_matter(other: str) -> None:
    assert words_of(other) == ["its", "3", "oclock", "the", "café", "near", "the", "strasse", "opens"]


def test_marks_are_part_of_words_and_emoji_are_not() -> None:
    assert words_of("हिन्दी में ❤️ लिखा") == ["हिन्दी", "में", "लिखा"]
    assert words_of("half \ud800 a pair") == ["half", "a", "pair"]


def test_one_word_less_than_n_is_not_found() -> None:
    text = "one two three four five six seven eight nine ten eleven twelve thirteen"
    index = NgramIndex([[text]])
    assert found_in(index, f"x {text} y") == [(1, text)]
    assert found_in(index, text.rpartition(" ")[0]) == []
    assert found_in(index, text.replace("seven", "seven and")) == []


def test_a_short_text_is_one_gram_and_a_shorter_one_none() -> None:
    ten, seven = "a b c d e f g h i j", "a b c d e f g"
    index = NgramIndex([[ten], [seven], [seven, ten]])
    assert index.grams_of_texts().tolist() == [1, 0, 0, 1]
    assert found_in(index, f"z {ten} z {seven} z") == [(1, ten)]
    assert index.overlap == 9  # no text of thirteen words: what follows need not be longer


def test_with_an_n_below_the_least_words_n_decides() -> None:
    assert found_in(NgramIndex([["to be or"]], n=2), "or not to be or be") == [(2, "to be"), (3, "be or")]


def test_grams_do_not_run_from_one_text_of_an_item_into_the_next() -> None:
    assert found_in(NgramIndex([["a b", "c d"], ["e f"]], n=2), "a b c d e f") == [(0, "a b"), (2, "c d"), (4, "e f")]


def test_words_that_no_item_has_are_numbered_zero_and_separate() -> None:
    index = NgramIndex([["a b"]], n=2)
    assert index.encode(["a", "unheard", "b"]).tolist() == [1, 0, 2]
    places, _ = index.find(np.concatenate([index.encode(["a"]), np.zeros(1, np.int32), index.encode(["b"])]))
    assert places.tolist() == []


def test_texts_without_words_are_no_trouble() -> None:
    index = NgramIndex([[], [""], ["..."]])
    assert (index.grams, index.items, index.grams_of_texts().tolist()) == (0, 3, [0, 0])
    assert found_in(index, "anything") == []
    assert found_in(NgramIndex([["a b"]], n=2), "") == []
