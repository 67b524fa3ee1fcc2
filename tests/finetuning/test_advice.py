"""What is told before a run: examples that are mostly cut, epochs of hardly a step; and how large a step usually is."""

from __future__ import annotations

import pytest

from folio.finetuning.advice import cut_short, few_steps
from folio.finetuning.config import usual_rows
from folio.finetuning.order import ShuffledEpochs


@pytest.mark.parametrize(("cut", "told"), [(0, False), (5, False), (6, True), (10, True)])
def test_examples_are_warned_of_where_more_than_half_are_cut(cut: int, told: bool) -> None:
    warning = cut_short(cut, 10, "examples", 64, 64)
    assert (warning is not None) == told
    assert not told or f"{cut} of 10 training examples are cut and teach no end" in str(warning)


def test_the_remedy_is_one_that_helps() -> None:
    """Where all are cut, to drop them leaves nothing; a longer row is of use where the context has room for it."""
    assert "too-long drop, or a base with a longer context" in str(cut_short(6, 10, "pairs", 64, 64))
    assert "too-long" not in str(cut_short(10, 10, "pairs", 64, 64))
    assert str(cut_short(10, 10, "pairs", 32, 64)).endswith("use a longer --data.block-size")


@pytest.mark.parametrize(("rows", "told"), [(3, True), (9, True), (15, True), (16, False), (400, False)])
def test_an_epoch_of_less_than_two_steps_is_warned_of(rows: int, told: bool) -> None:
    assert (few_steps(ShuffledEpochs([5] * rows, 8, seed=0), 3.0, 64) is not None) == told


def test_the_warning_says_how_long_the_run_is() -> None:
    warning = few_steps(ShuffledEpochs([5] * 9, 8, seed=0), 3.0, 1024)
    assert "an epoch is 9 rows and a step takes 8, so the whole run is 4 steps" in str(warning)
    assert "a row is 1,024 places" in str(warning)
    assert "1 row and a step takes 8, so the whole run is 1 step:" in str(
        few_steps(ShuffledEpochs([5], 8, seed=0), 3.0, 64)
    )


def test_a_step_is_eight_rows_and_fewer_where_an_epoch_would_be_few_steps() -> None:
    assert [usual_rows(rows) for rows in (1, 9, 19, 20, 54, 79, 80, 10_000)] == [1, 1, 1, 2, 5, 7, 8, 8]
    for rows in range(10, 500):
        assert ShuffledEpochs([1] * rows, usual_rows(rows), seed=0).steps_an_epoch >= 10
