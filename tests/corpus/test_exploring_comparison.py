"""What tells two texts apart, against the formulae written another way."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.corpus.exploring.comparison import compared_words, distinctions, overlap
from folio.corpus.exploring.words import content_words, folded
from folio.corpus.statistics import Statistics

WORDS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 500), min_size=1)


def text(*texts: str) -> Statistics:
    found = Statistics()
    for each in texts:
        found.add(each)
    return found


def by_definition(one: dict[str, int], other: dict[str, int], share: float) -> dict[str, tuple[float, float]]:
    """Monroe et al. 2008: log-odds with the prior added to counts and to totals, and their difference by its
    standard deviation."""
    words = sorted(one.keys() | other.keys())
    y = np.array([[side.get(word, 0) for word in words] for side in (one, other)], dtype=float)
    n = y.sum(axis=1, keepdims=True)
    alpha = share * n.min() * y.sum(axis=0) / y.sum()
    alpha_0 = alpha.sum()
    odds = np.log(y + alpha) - np.log(np.maximum(n + alpha_0 - y - alpha, alpha))
    delta = odds[0] - odds[1]
    z = delta / np.sqrt((1 / (y + alpha)).sum(axis=0))
    return {word: (delta[i], z[i]) for i, word in enumerate(words)}


@given(WORDS, WORDS, st.sampled_from([0.01, 0.1, 1.0]))
def test_log_odds_are_the_papers(one: dict[str, int], other: dict[str, int], share: float) -> None:
    expected = by_definition(one, other, share)
    found = distinctions(one, other, share)
    assert [each.word for each in found] == [e.word for e in sorted(found, key=lambda e: (-e.z, e.word))]
    for each in found:
        assert (each.log_odds, each.z) == pytest.approx(expected[each.word], abs=1e-9)
    swapped = {each.word: each.z for each in distinctions(other, one, share)}
    assert all(swapped[each.word] == pytest.approx(-each.z, abs=1e-9) for each in found)


def test_a_text_is_not_apart_from_itself() -> None:
    assert all(each.z == 0 for each in distinctions({"a": 5, "b": 1}, {"a": 5, "b": 1}))
    assert compared_words(text("a b a"), text("a b a"))["distinctive"] == [[], []]
    assert distinctions({"a": 1}, {}) == []


def test_rare_words_do_not_lead() -> None:
    common = {f"w{n}": 1000 for n in range(20)}
    found = distinctions(common | {"often": 400, "once": 1}, common | {"often": 40})
    assert found[0].word == "often"
    assert abs(next(each.z for each in found if each.word == "once")) < 1.96


@given(WORDS, WORDS)
def test_divergence_is_between_nothing_and_one_bit(one: dict[str, int], other: dict[str, int]) -> None:
    found = overlap(one, other)["divergence_bits"]
    assert 0 <= found <= 1
    words = sorted(one.keys() | other.keys())
    p, q = (np.array([side.get(word, 0) for word in words]) / sum(side.values()) for side in (one, other))

    def entropy(x: np.ndarray) -> float:
        kept = x[x > 0]
        return float(-(kept * np.log2(kept)).sum())

    assert found == pytest.approx(entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2, abs=1e-9)


def test_overlap_counts_types_and_running_words() -> None:
    found = overlap({"a": 6, "b": 2}, {"a": 1, "c": 1, "d": 2})
    assert (found["types"], found["shared_types"]) == ([2, 3], 1)
    assert found["shares_of_types"] == [0.5, pytest.approx(1 / 3)]
    assert found["shares_of_tokens"] == [0.75, 0.25]
    assert overlap({}, {"a": 1})["divergence_bits"] is None


def test_capitals_and_small_letters_are_one_word_written_as_most_often() -> None:
    assert folded({"The": 2, "the": 5, "Tom": 3, "tom": 1, ",": 9, "\n": 9}) == {"the": 7, "Tom": 4}
    # of two texts the spelling is common to both, so that words meet
    found = compared_words(text("Love love " * 5 + "x"), text("LOVE " * 30 + "y"))
    assert found["overlap"]["shared_types"] == 1


def test_words_that_say_little_are_left_out_of_the_cloud() -> None:
    types = Counter({"the": 50, "The": 5, "boat": 3, "Boat": 1, "7": 9, "x": 4, "sea": 4, ".": 30})
    assert content_words(types, 10) == [("boat", 4), ("sea", 4)]
