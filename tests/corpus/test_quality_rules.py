"""Each rule about a document's length, language, words and repetition: what is at its threshold stays, past it goes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.corpus.quality import QualityConfig
from folio.corpus.quality.gopher import GopherRules, gopher_fault
from folio.corpus.quality.language import LanguageFilter
from folio.corpus.quality.length import length_fault
from folio.corpus.quality.repetition import RepetitionRules, repetition_fault
from folio.errors import ConfigError


def reason(fault: object) -> str | None:
    return getattr(fault, "reason", None)


def numbered(count: int, start: int = 0) -> list[str]:
    """Words of five letters, all different."""
    numbers = range(start, start + count)
    return ["w" + "".join(chr(97 + number // 26**place % 26) for place in range(4)) for number in numbers]


@pytest.mark.parametrize(
    ("bound", "just", "past", "why"),
    [
        ({"min_characters": 5}, "12345", "1234", "too few characters"),
        ({"max_characters": 5}, "12345", "123456", "too many characters"),
        ({"min_words": 3}, "a b\nc", "a b", "too few words"),
        ({"max_words": 3}, "a b\tc ", "a b c d", "too many words"),
    ],
)
def test_a_length_at_its_bound_stays(bound: dict[str, int], just: str, past: str, why: str) -> None:
    config = QualityConfig(**bound)  # type: ignore[arg-type]
    assert length_fault(just, config) is None
    assert reason(length_fault(past, config)) == why


def test_bounds_that_nothing_meets_are_refused() -> None:
    with pytest.raises(ValueError, match="below min_words"):
        QualityConfig(min_words=10, max_words=9)


def gopher_pairs() -> list[tuple[str, str, str]]:
    """Text at the threshold, text just past it, and the reason."""
    w = numbered(98)
    base = " ".join(["the", "of", *w])  # 100 words
    lines = [f"line {' '.join(numbered(7, 10 * n))} the of" for n in range(10)]
    return [
        (" ".join(["the", "of", *w[:48]]), " ".join(["the", "of", *w[:47]]), "too few words"),
        (base + "#" * 10, base + "#" * 11, "too many hash signs"),
        ("…" * 10 + base, "…" * 8 + "..." * 3 + base, "too many ellipses"),
        (
            "\n".join(["- " + x for x in lines[:9]] + lines[9:]),
            "\n".join("• " + x for x in lines),
            "too many bullet lines",
        ),
        (
            "\n\n".join([x + "..." for x in lines[:3]] + lines[3:]),
            "\n\n".join([x + " …" for x in lines[:4]] + lines[4:]),
            "too many lines end in an ellipsis",
        ),
        (
            " ".join(["the", "of", *w[:78], *["12345"] * 20]),
            " ".join(["the", "of", *w[:77], *["12345"] * 21]),
            "too few alphabetic words",
        ),
        (" ".join(["“The", "of,", *w]), " ".join(["the", "The", *w]), "too few stop words"),
    ]


@pytest.mark.parametrize(("just", "past", "why"), gopher_pairs())
def test_gophers_rules_keep_what_is_at_the_threshold(just: str, past: str, why: str) -> None:
    assert gopher_fault(just) is None
    assert reason(gopher_fault(past)) == why


def test_gophers_words_have_three_to_ten_characters_on_average() -> None:
    assert gopher_fault("the " * 49 + "and") is None
    assert reason(gopher_fault("the " * 49 + "of")) == "words too short"
    ten = " ".join(["the", "of", "x" * 25, *["x" * 10] * 97])
    assert gopher_fault(ten) is None
    assert reason(gopher_fault(ten + "x")) == "words too long"


def test_gophers_longest_document_has_its_most_words() -> None:
    rules = GopherRules(max_words=60)
    words = ["the", "of", *numbered(58)]
    assert gopher_fault(" ".join(words), rules) is None
    assert reason(gopher_fault(" ".join([*words, "more"]), rules)) == "too many words"


@pytest.mark.parametrize("text", ["", " \n ", "\u200b", "…", "a"])
def test_texts_of_next_to_nothing_are_judged_without_a_crash(text: str) -> None:
    assert reason(gopher_fault(text)) == "too few words"
    gopher_fault(text, GopherRules(min_words=0))
    assert repetition_fault(text) is None


LOOSE = {"max_top_ngram": {}, "max_duplicate_ngrams": {}}


def test_duplicate_lines_and_paragraphs_at_the_threshold_stay() -> None:
    rules = RepetitionRules(**LOOSE)  # type: ignore[arg-type]
    lines = [f"{word} stands on a line that is long" for word in numbered(7)]
    assert repetition_fault("\n".join([*lines, "a", "a", "a", "a"][:10]), rules) is None  # two of ten
    assert repetition_fault("\n".join([*lines[:6], "a", "a", "a", "a"]), rules) is None  # three of ten
    assert reason(repetition_fault("\n".join([*lines[:5], "a", "a", "a", "a", "a"]), rules)) == "duplicate lines"
    filled = [f"{line}\nx{line}" for line in lines]
    assert repetition_fault("\n \n".join([*filled[:6], "a", "a", "a", "a"]), rules) is None
    past = "\n\n\n".join([*filled[:5], "a", "a", "a", "a", "a"])
    assert reason(repetition_fault(past, rules)) == "duplicate paragraphs"


def test_characters_in_duplicates_at_the_threshold_stay() -> None:
    rules = RepetitionRules(**LOOSE)  # type: ignore[arg-type]
    fifth = ["x" * 20, "y" * 20, "z" * 20, "v" * 20]
    assert repetition_fault("\n".join([*fifth, "v" * 20]), rules) is None  # 20 of 100
    more = "\n".join([*fifth[:3], "v" * 21, "v" * 21])
    assert reason(repetition_fault(more, rules)) == "characters in duplicate lines"
    rules = RepetitionRules(max_duplicate_lines=1, max_duplicate_line_characters=1, max_duplicate_paragraphs=1, **LOOSE)  # type: ignore[arg-type]
    opening = ["x" * 40, "y" * 20, "z\nz" * 10]
    assert repetition_fault("\n\n".join([*opening, "v" * 20, "v" * 20]), rules) is None  # 20 of 120
    assert repetition_fault("\n\n".join(["x" * 60, "v" * 20, "v" * 20]), rules) is None  # 20 of 100
    past = "\n\n".join(["x" * 59, "v v" * 10, "v v" * 10])
    assert reason(repetition_fault(past, rules)) == "characters in duplicate paragraphs"


@pytest.mark.parametrize(("n", "most"), [(2, 0.20), (3, 0.18), (4, 0.16)])
def test_the_top_run_of_words_at_its_threshold_stays(n: int, most: float) -> None:
    """Five-letter words: a run of n, twice, covers 2n of the words."""
    run = numbered(n, 5000)
    count = -(-2 * n * 100 // round(most * 100))  # the least number of words at which the share is not above
    others = numbered(count - 2 * n)
    text = [*others[:3], *run, *others[3:6], *run, *others[6:]]
    rules = RepetitionRules(max_top_ngram={n: most}, max_duplicate_ngrams={})
    assert repetition_fault(" ".join(text), rules) is None
    assert reason(repetition_fault(" ".join(text[:-1]), rules)) == f"top {n}-gram"


@pytest.mark.parametrize(("n", "most"), [(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)])
def test_repeated_runs_of_words_at_their_threshold_stay(n: int, most: float) -> None:
    """Only the second occurrence counts: n words of them all."""
    run = numbered(n, 5000)
    count = -(-n * 100 // round(most * 100))
    others = numbered(count - 2 * n)
    text = [*run, *others[:3], *run, *others[3:]]
    assert len(text) == count
    rules = RepetitionRules(max_top_ngram={}, max_duplicate_ngrams={n: most})
    assert repetition_fault(" ".join(text), rules) is None
    assert reason(repetition_fault(" ".join(text[:-1]), rules)) == f"duplicate {n}-grams"


def test_a_run_that_does_not_recur_is_no_repetition() -> None:
    assert repetition_fault("two words") is None
    assert repetition_fault("here are four words") is None


def test_overlapping_runs_count_their_characters_once() -> None:
    rules = RepetitionRules(max_top_ngram={2: 0.999}, max_duplicate_ngrams={5: 0.999})
    assert reason(repetition_fault("word " * 100, rules)) == "top 2-gram"  # all of it, and not twice all of it
    with_more = RepetitionRules(max_top_ngram={2: 1.0}, max_duplicate_ngrams={5: 0.99})
    assert repetition_fault("word " * 100, with_more) is None  # 99 of 100 words


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.integers(1, 6))
def test_shares_of_runs_equal_those_counted_by_hand(words: list[str], n: int) -> None:
    grams = [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
    again = {at + offset for at, gram in enumerate(grams) if gram in grams[:at] for offset in range(n)}
    share = len(again) / len(words)
    for most, drops in ((share, False), (max(0, share - 1e-9), share > 0)):
        rules = RepetitionRules(max_top_ngram={}, max_duplicate_ngrams={n: most}, max_duplicate_lines=1)
        assert (repetition_fault(" ".join(words), rules) is not None) == drops


ENGLISH = "It was the best of times, it was the worst of times, and nobody knew which of them it was. "
GERMAN = "Es war die beste aller Zeiten, es war die schlechteste, und niemand wusste, welche es war. "


@pytest.mark.parametrize(
    ("text", "languages", "why"),
    [
        (ENGLISH, ("en",), None),
        (GERMAN, ("en",), "other language"),
        (GERMAN, ("en", "de"), None),
        ("C'était le meilleur des temps, c'était le pire, et personne ne savait lequel des deux.", ("fr",), None),
        ("", ("en",), "language unsure"),
        ("12 34 56 78 90 $$$ ### 1.2 3.4", ("en",), "language unsure"),
    ],
)
def test_documents_in_another_language_go(text: str, languages: tuple[str, ...], why: str | None) -> None:
    assert reason(LanguageFilter(languages, 0.65).fault(text)) == why


def test_the_language_of_a_long_text_is_not_that_of_its_opening_alone() -> None:
    assert reason(LanguageFilter(("en",), 0.65).fault(ENGLISH * 30 + GERMAN * 3000)) == "other language"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("english", "'en' (English)"),
        ("EN", "'en' (English)"),
        ("en-US", "'en' (English)"),
        ("ger", "'de' (German)"),
        ("deutsch", "'de' (German)"),
        ("francais", "'fr' (French)"),
        ("Chinees", "'zh' (Chinese)"),
        ("nb", "'no' (Norwegian)"),
        ("klingon", None),
        ("xx", None),
    ],
)
def test_an_unknown_language_is_answered_with_the_one_that_is_meant(given: str, meant: str | None) -> None:
    with pytest.raises(ConfigError, match=rf"'{given}' is not known") as caught:
        LanguageFilter((given,), 0.65)
    remedy = caught.value.remedy
    assert remedy.startswith(f"Did you mean {meant}? " if meant else "Give a code such as en")
    assert "docs/quality.md" in remedy
    assert len(remedy) < 100


def test_the_page_on_quality_lists_every_code_of_the_model() -> None:
    from folio.corpus.quality.language import _model

    page = (Path(__file__).parents[2] / "docs" / "quality.md").read_text()
    listed = page.partition(" codes: ")[2].partition(" (")[0]
    assert re.split(r",\s", listed) == sorted(set(_model().labels))
