"""C4's rules: each switch does what it says and nothing else; lines at a bound stay, and what goes is counted."""

from __future__ import annotations

from typing import Any

import pytest

from folio.corpus.quality import C4Config
from folio.corpus.quality.c4 import c4_verdict, count_sentences

PAGE = "A first line of prose ends here.\nMenu\n\nA second line is said to end as well!\nIs a third one needed, then?"


def verdict(text: str, **switches: Any) -> tuple[str, str | None, dict[str, int]]:
    found = c4_verdict(text, C4Config(**switches))
    changes = {change.reason: change.hits for change in found.changes}
    return found.text, found.fault.reason if found.fault else None, changes


def test_without_a_switch_nothing_changes() -> None:
    text = PAGE + "\n lorem ipsum { javascript [1] cookie policy\n" + "x" * 2000 + "\n"
    assert verdict(text) == (text, None, {})


@pytest.mark.parametrize("mark", [".", "!", "?", '"', "”", "’", "'", "。", "؟"])
def test_a_line_that_ends_a_sentence_stays(mark: str) -> None:
    assert verdict(f"It ends{mark} ", terminal_punctuation=True) == (f"It ends{mark} ", None, {})


@pytest.mark.parametrize("end", ["", ",", ":", "...", "…", ")", "-"])
def test_a_line_that_ends_otherwise_goes(end: str) -> None:
    text, fault, changes = verdict(f"It ends.\nIt goes on{end}", terminal_punctuation=True)
    assert (text, fault, changes) == ("It ends.", None, {"line without terminal punctuation": 1})


def test_what_goes_is_counted_by_its_first_reason() -> None:
    text, fault, changes = verdict(PAGE, terminal_punctuation=True, min_words_per_line=7)
    assert fault is None
    assert text == "A first line of prose ends here.\nA second line is said to end as well!"
    assert changes == {"line without terminal punctuation": 1, "blank line": 1, "line of few words": 1}


@pytest.mark.parametrize(
    ("switches", "stays", "goes", "why"),
    [
        ({"min_words_per_line": 5}, "one two three four five", "one two three four", "line of few words"),
        ({"max_word_length": 10}, "a bcdefghijkl"[:12], "a bcdefghijklm", "line with a long word"),
        ({"javascript": True}, "Java scripts", "Turn on JavaScript now.", "line with javascript"),
        ({"policy": True}, "Our policy on cookies", "Read our Privacy Policy.", "line about policies"),
        ({"policy": True}, "Terms", "This site uses cookies.", "line about policies"),
    ],
)
def test_rules_about_lines(switches: dict[str, Any], stays: str, goes: str, why: str) -> None:
    assert verdict(f"{stays}\n{goes}", **switches) == (stays, None, {why: 1})


@pytest.mark.parametrize("text", ["A page.\nLorem Ipsum dolor", "lorem ipsum"])
def test_a_page_of_filler_text_goes(text: str) -> None:
    assert verdict(text, lorem_ipsum=True)[1] == "lorem ipsum"
    assert verdict("Lorem dolor ipsum.", lorem_ipsum=True)[1] is None


@pytest.mark.parametrize("bracket", "{}")
def test_a_page_with_a_curly_bracket_goes(bracket: str) -> None:
    assert verdict(f"Prose.\nif x {bracket}", curly_bracket=True, terminal_punctuation=True)[1] == "curly bracket"
    assert verdict("Prose [with] (others).", curly_bracket=True)[1] is None


def test_citations_go_and_the_text_around_them_stays() -> None:
    text = "It rained[1][23] that day.[citation needed]\nHistory[edit]\nA list [a, 1] and [] end."
    cleaned, fault, changes = verdict(text, citations=True)
    assert cleaned == "It rained that day.\nHistory\nA list [a, 1] and  end."
    assert (fault, changes) == (None, {"citation": 5})


def test_a_page_of_the_least_number_of_sentences_stays() -> None:
    three = 'He came. "Did he?" she said.\nNo mark at all'
    assert count_sentences(three.split("\n")) == 4
    assert verdict(three, min_sentences=4)[1] is None
    assert verdict(three, min_sentences=5)[1] == "too few sentences"
    assert verdict("彼は来た。彼女は笑った！", min_sentences=2)[1] is None
    assert verdict("3.14 is version 2.0 of pi.", min_sentences=2)[1] == "too few sentences"


def test_a_page_without_a_line_left_goes() -> None:
    assert verdict("Menu\nHome", terminal_punctuation=True)[1] == "no line left"
