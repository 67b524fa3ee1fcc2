"""Where a run turned is said as far as its numbers bear it, and no further."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.finetuning.overfitting import HEADER, EpochLoss, best_of, epoch_losses, epoch_rows, turn_of


def losses(*pairs: tuple[float, float], error: float = 0.01, every: int = 10) -> list[EpochLoss]:
    """(train, validation) of epoch 0, 1, 2, ..."""
    return [EpochLoss(every * n, float(n), held, train, error) for n, (train, held) in enumerate(pairs)]


def words_of(found: list[EpochLoss]) -> tuple[str, str]:
    turn = turn_of(found)
    assert turn is not None
    return turn.outcome, turn.words


def test_a_rise_beyond_the_error_is_a_turn_with_its_epoch_and_both_losses() -> None:
    found = losses((4.0, 4.0), (2.8, 3.2), (2.5, 3.1), (2.1, 3.2), (1.9, 3.34))
    outcome, words = words_of(found)
    assert outcome == "turned"
    assert words == "turned after epoch 2: validation rose from 3.1 to 3.34 while training fell from 2.5 to 1.9"


def test_what_still_falls_at_the_end_has_not_turned_and_asks_for_more() -> None:
    outcome, words = words_of(losses((4.0, 4.0), (3.0, 3.2), (2.5, 3.0)))
    assert outcome == "not turned"
    assert words.startswith("had not turned: validation fell from 4 to 3,")
    assert words.endswith("train longer")


def test_what_hardly_falls_any_more_does_not_ask_for_more() -> None:
    outcome, words = words_of(losses((4.0, 4.0), (3.0, 3.0), (2.5, 2.99)))
    assert outcome == "not turned"
    assert "train longer" not in words
    assert "hardly any more" in words


def test_a_rise_within_the_error_is_no_verdict() -> None:
    found = losses((4.0, 4.0), (2.5, 3.1), (1.9, 3.12))
    outcome, words = words_of(found)
    assert outcome == "cannot tell"
    assert "within 0.028" in words, "1.96 times the error of a difference of two losses"
    sure = [EpochLoss(one.step, one.epoch, one.validation, one.train, 0.001) for one in found]
    assert words_of(sure)[0] == "turned"


def test_a_model_that_only_got_worse_says_so_by_the_base() -> None:
    outcome, words = words_of(losses((3.0, 3.0), (2.5, 3.5), (1.9, 3.9)))
    assert outcome == "never better"
    assert words.startswith("never better than the base: validation rose from 3 to 3.9")


def test_training_that_rises_too_is_no_overfitting() -> None:
    _, words = words_of(losses((3.0, 3.0), (2.5, 2.8), (5.0, 5.2)))
    assert "training rose too, from 2.5 to 5" in words
    assert "while training fell" not in words


def test_without_errors_a_rise_is_told_with_its_doubt() -> None:
    outcome, words = words_of(losses((4.0, 4.0), (2.5, 3.1), (1.9, 3.3), error=math.nan))
    assert outcome == "turned"
    assert "chance is not ruled out" in words


def test_one_validation_says_nothing_of_a_turn() -> None:
    assert turn_of(losses((4.0, 4.0))) is None
    assert turn_of([]) is None
    assert epoch_rows([]) == []


@given(st.lists(st.floats(0.1, 9), min_size=2, max_size=8), st.floats(0.001, 1))
def test_the_outcome_follows_the_numbers(held: list[float], error: float) -> None:
    found = losses(*((1.0, value) for value in held), error=error)
    turn = turn_of(found)
    assert turn is not None
    assert turn.best.validation == min(held)
    assert (turn.outcome == "not turned") == (turn.best is turn.last)
    assert (turn.outcome in ("turned", "never better")) == (held[-1] - min(held) > 1.959964 * math.hypot(error, error))
    assert "nan" not in turn.words


def validation(step: int, **fields: Any) -> dict[str, Any]:
    return {"kind": "validation", "step": step, "epoch": step / 10, **fields}


def test_lines_of_metrics_become_rows_with_the_base_and_the_best_named() -> None:
    lines = [
        validation(0, nats_per_token=4.0, standard_error_nats=0.1, train_nats_per_token=4.1),
        {"kind": "train", "step": 1, "nats_per_token": 1.0},
        validation(10, nats_per_token=3.0, standard_error_nats=None, train_nats_per_token=None),
        validation(15, nats_per_token=None),
        {"kind": "validation", "step": 17, "nats_per_token": 1.0},
    ]
    found = epoch_losses(lines)
    assert [one.step for one in found] == [0, 10]
    assert epoch_rows(found) == [
        [0.0, 0, 4.1, 4.0, 0.1, pytest.approx(-0.1), "base"],
        [1.0, 10, None, 3.0, None, None, "best"],
    ]
    assert {len(row) for row in epoch_rows(found)} == {len(HEADER)}
    assert best_of(found).step == 10
    outcome, words = words_of(found)
    assert outcome == "not turned"
    assert not re.search(r"\bnan\b", words)


def test_preferences_have_their_own_loss_and_accuracy() -> None:
    lines = [
        validation(0, nats_per_pair=0.69, train_nats_per_pair=0.69, standard_error_nats=0.001, accuracy=0.5),
        validation(10, nats_per_pair=0.4, train_nats_per_pair=0.3, standard_error_nats=0.001, accuracy=0.8),
    ]
    assert epoch_losses(lines) == []
    found = epoch_losses(lines, "nats_per_pair")
    assert [(one.validation, one.train, one.accuracy) for one in found] == [(0.69, 0.69, 0.5), (0.4, 0.3, 0.8)]
