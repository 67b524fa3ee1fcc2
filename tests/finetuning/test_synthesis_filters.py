"""Which answers are set aside, and for which reason."""

from __future__ import annotations

import random

import pytest

from folio.finetuning.synthesis.filters import Filters, Similar, shingles
from folio.finetuning.synthesis.tables import FiltersTable, OutputTable

LONG = "the old bridge of the northern city hangs over black water while lamps burn along its broken rail"


def filters(*kept: str, **table: object) -> Filters:
    return Filters(FiltersTable.model_validate(table), OutputTable(begin="<LOC>", end="</LOC>"), kept)


@pytest.mark.parametrize(
    ("text", "finish", "table", "reason"),
    [
        (LONG, "stop", {}, None),
        ("", "stop", {}, "empty"),
        ("", "content_filter", {}, "refused"),
        (LONG, "content_filter", {}, "refused"),
        (LONG, "length", {}, "cut short"),
        (LONG, "length", {"keep_cut": True}, None),
        (f"{LONG} </LOC> {LONG}", "stop", {}, "holds a mark"),
        (LONG, "stop", {"min_words": 19}, "too short"),
        (LONG, "stop", {"min_words": 18, "max_words": 18}, None),
        (LONG, "stop", {"max_words": 17}, "too long"),
        (LONG, "stop", {"forbidden": ["NORTHERN  City"]}, "forbidden word"),
        (LONG, "stop", {"forbidden": ["north", "lamp", "water lamps"]}, None),
        ("As an A.I., I cannot", "stop", {"forbidden": ["as an a.i."]}, "forbidden word"),
    ],
)
def test_each_reason(text: str, finish: str, table: dict[str, object], reason: str | None) -> None:
    assert filters(**table).reason(text, finish) == reason


def test_equal_and_nearly_equal_texts_are_told_apart_from_others() -> None:
    changed = LONG.replace("black", "still")
    assert filters(LONG).reason(LONG.upper() + "!", "stop") == "duplicate"
    assert filters(LONG, near_duplicate=None).reason(LONG, "stop") == "duplicate"
    assert filters(LONG, near_duplicate=0.6).reason(changed, "stop") == "near-duplicate"
    assert filters(LONG, near_duplicate=0.9).reason(changed, "stop") is None
    assert filters(LONG, near_duplicate=None).reason(changed, "stop") is None
    assert filters("a hut", near_duplicate=0.1).reason("a barn", "stop") is None


def test_similarity_is_the_highest_jaccard_of_any_text() -> None:
    draw = random.Random(0)
    texts = [[draw.choice("abcd") for _ in range(draw.randint(1, 30))] for _ in range(80)]
    for size in (1, 2, 3):
        similar = Similar()
        seen: list[frozenset[tuple[str, ...]]] = []
        for words in texts:
            mine = shingles(words, size)
            assert similar.most(mine) == max((len(mine & one) / len(mine | one) for one in seen), default=0.0)
            similar.add(mine)
            seen.append(mine)


def test_a_texts_shingles_are_its_runs_of_words_or_itself() -> None:
    assert shingles(["a", "b", "a", "b"], 2) == {("a", "b"), ("b", "a")}
    assert shingles(["a", "b"], 5) == {("a", "b")}


def test_marks_that_the_endpoint_set_itself_are_taken_off() -> None:
    assert filters().cleaned(f"  <LOC>\n{LONG}\n</LOC>\n") == LONG
    assert filters().cleaned("<LOC>") == "<LOC>"
    assert filters().reason("<LOC> " + LONG, "stop") == "holds a mark"
    assert Filters(FiltersTable(), OutputTable(), []).reason("<LOC> " + LONG, "stop") is None
