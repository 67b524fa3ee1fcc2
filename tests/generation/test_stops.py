"""Stop strings are found wherever pieces are cut, and nothing that follows leaks out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.generation.stops import StopFilter


def run(pieces: list[str], stop: list[str]) -> tuple[str, bool]:
    stops = StopFilter(stop)
    text = "".join(stops.push(piece) for piece in pieces)
    return (text if stops.stopped else text + stops.flush()), stops.stopped


@given(
    text=st.text(alphabet="ab\n", max_size=30),
    stop=st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 30)),
)
def test_any_cutting_into_pieces_gives_the_text_before_the_first_stop(
    text: str, stop: list[str], cuts: list[int]
) -> None:
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(borders)]
    shown, stopped = run(pieces, stop)
    found = [text.index(s) for s in stop if s in text]
    assert stopped == bool(found)
    if not found:
        assert shown == text
    else:  # of two that overlap, the one complete first ends the text
        ends = [text.index(s) + len(s) for s in stop if s in text]
        assert text.startswith(shown)
        assert min(found) <= len(shown) <= min(ends)
        assert not any(s in shown for s in stop)


def test_what_may_become_a_stop_string_is_held_back() -> None:
    stops = StopFilter(["\nROMEO:"])
    assert stops.push("love\nROM") == "love"
    assert stops.push("AN:") == "\nROMAN:"
    assert stops.push(" a\n") == " a"
    assert stops.flush() == "\n"


@pytest.mark.parametrize("pieces", [["a ST", "OP b"], ["a STOP b"], list("a STOP b")])
def test_the_stop_string_is_no_part_of_the_text(pieces: list[str]) -> None:
    assert run(pieces, ["STOP"]) == ("a ", True)
