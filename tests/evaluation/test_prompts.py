"""Prompts by the rule "passages": what is a candidate, which are drawn, and that the draw stands on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from folio.errors import DataError
from folio.evaluation.oracle.prompts import Passage, draw, last_lines, passages, sample_seed

TEXT = "A:\none\n\nB:\ntwo words\n \t\n\nC:\nthree more words\n"


def texts(found: object) -> list[str]:
    return [passage.text for passage in found]  # type: ignore[attr-defined]


def numbered(count: int) -> list[Passage]:
    return list(passages("\n\n".join(f"passage {number}" for number in range(count))))


def test_passages_lie_between_blank_lines_without_white_space_at_their_ends() -> None:
    assert texts(passages(TEXT)) == ["A:\none", "B:\ntwo words", "C:\nthree more words"]
    assert texts(passages("\n\n  a\n\n\n\n")) == ["a"]
    assert texts(passages(" \n\n ")) == []


def test_a_passage_that_the_cut_goes_through_is_no_candidate() -> None:
    begin = TEXT.index("B:")
    assert texts(passages(TEXT, begin)) == ["B:\ntwo words", "C:\nthree more words"]
    assert texts(passages(TEXT, begin + 1)) == ["C:\nthree more words"]


def test_the_last_lines_begin_where_so_many_lines_are_left() -> None:
    text = "".join(f"line {number}\n" for number in range(10))
    assert text[last_lines(text, 0.1) :] == "line 9\n"
    assert text[last_lines(text, 0.25) :] == "line 7\nline 8\nline 9\n"
    assert text.removesuffix("\n")[last_lines(text.removesuffix("\n"), 0.1) :] == "line 9"


def test_tiny_shakespeare_has_the_841_candidates_of_efficient_shakespeare(shared_data: Callable[[str], Path]) -> None:
    text = shared_data("tinyshakespeare.txt").read_text(encoding="utf-8")
    begin = last_lines(text, 0.1)
    found = list(passages(text, begin))
    assert len(found) == 841
    assert found[0].text.startswith("BAPTISTA:\nI know not what to say")
    assert begin > int(len(text) * 0.9), "what is trained on by a cut at 90 % of the characters holds no candidate"


def test_what_follows_is_the_document_s_own_text() -> None:
    first = next(passages(TEXT))
    assert first.following(3) == "\n\nB:\ntwo words"
    assert TEXT.startswith(first.text + str(first.following(4)))
    assert first.following(7) is not None
    assert first.following(8) is None


def test_a_draw_is_without_replacement_and_repeats_with_its_seed() -> None:
    pool = numbered(200)
    drawn = draw(pool, 50, seed=3)
    assert len(set(texts(drawn.prompts))) == len({prompt.id for prompt in drawn.prompts}) == 50
    assert draw(pool, 50, seed=3) == drawn
    assert set(texts(draw(pool, 50, seed=4).prompts)) != set(texts(drawn.prompts))
    assert sorted(texts(draw(pool, 200, seed=3).prompts)) == sorted(texts(pool))


def test_every_candidate_is_as_likely_as_another() -> None:
    pool = numbered(20)
    counts = dict.fromkeys(texts(pool), 0)
    for seed in range(1000):
        for text in texts(draw(pool, 5, seed=seed).prompts):
            counts[text] += 1
    assert all(abs(count - 250) < 5 * (1000 * 0.25 * 0.75) ** 0.5 for count in counts.values())


def test_a_model_that_cannot_read_a_prompt_changes_no_other_prompt() -> None:
    pool = numbered(100)
    without = texts(draw(pool, 20, seed=1).prompts)
    refused = without[4]
    drawn = draw(pool, 20, seed=1, refusal=lambda text: "that B cannot read" if text == refused else None)
    assert texts(drawn.prompts)[:19] == [text for text in without if text != refused]
    assert drawn.left_out == {"that B cannot read": 1}


def test_limits_and_repeats_are_counted() -> None:
    pool = list(passages("one\n\none\n\ntwo words\n\nthree whole words\n\nno less than five words"))
    drawn = draw(pool, 2, seed=0, min_words=2, max_words=3)
    assert sorted(texts(drawn.prompts)) == ["three whole words", "two words"]
    assert (drawn.candidates, drawn.left_out) == (5, {"of less than 2 words": 2, "of more than 3 words": 1})
    assert draw(pool, 4, seed=0).left_out == {"repeating another": 1}


def test_too_few_passages_are_counted_in_the_error() -> None:
    with pytest.raises(DataError, match=r"gives 4 prompts, and 9 were asked for \(5 passages; 1 repeating another\)"):
        draw(passages("a\n\na\n\nb\n\nc\n\nd"), 9, seed=0)
    with pytest.raises(DataError, match="gives 0 prompts"):
        draw(passages("\n"), 1, seed=0)


def test_seeds_of_samples_differ_and_depend_on_nothing_else() -> None:
    seeds = {sample_seed(seed, id, sample) for seed in (0, 1) for id in ("a", "b") for sample in range(50)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert sample_seed(0, "a", 7) == sample_seed(0, "a", 7)
