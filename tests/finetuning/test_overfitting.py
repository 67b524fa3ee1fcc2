"""Where a run turned is said as far as its numbers bear it, and no further."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.evaluation.estimates import ratio
from folio.evaluation.significance import student_quantile
from folio.finetuning.overfitting import EpochLoss, best_of, epoch_losses, epoch_table, turn_of


def losses(*pairs: tuple[float, float], error: float = 0.01, every: int = 10) -> list[EpochLoss]:
    """(train, validation) of epoch 0, 1, 2, ..."""
    return [EpochLoss(every * n, float(n), held, train, error) for n, (train, held) in enumerate(pairs)]


def words_of(found: list[EpochLoss]) -> tuple[str, str]:
    turn = turn_of(found)
    assert turn is not None
    return turn.outcome, turn.words


def measured(*validations: list[float], train: float = 1.0, tokens: int = 10) -> list[EpochLoss]:
    """Validations of which the nats per token of each example are given; the examples differ widely."""
    found = []
    for epoch, nats in enumerate(validations):
        loss = ratio([tokens * one for one in nats], [tokens] * len(nats))
        each = tuple((tokens * one, float(tokens)) for one in nats)
        found.append(
            EpochLoss(10 * epoch, float(epoch), loss.value, train / (1 + epoch), loss.standard_error, each=each)
        )
    return found


def test_a_rise_beyond_the_error_is_a_turn_with_its_epoch_and_both_losses() -> None:
    found = losses((4.0, 4.0), (2.8, 3.2), (2.5, 3.1), (2.1, 3.2), (1.9, 3.34))
    outcome, words = words_of(found)
    assert outcome == "turned"
    assert words == (
        "validation turned after epoch 2: it rose from 3.1 to 3.34, beyond the 0.028 that chance could do (by the two "
        "errors, not paired), while training fell from 2.5 to 1.9"
    )


def test_few_examples_tell_a_turn_when_their_own_losses_are_known() -> None:
    held = ([5.0, 3.0, 6.0, 2.0, 4.0, 7.0], [4.0, 2.0, 5.1, 1.1, 3.0, 6.0], [4.2, 2.25, 5.3, 1.3, 3.18, 6.21])
    found = measured(*held)
    outcome, words = words_of(found)
    assert outcome == "turned"
    assert "paired over the same 6 examples" in words
    blind = [EpochLoss(one.step, one.epoch, one.validation, one.train, one.standard_error) for one in found]
    outcome, words = words_of(blind)
    assert outcome == "cannot tell"
    assert "not paired" in words
    elsewhere = [*found[:2], EpochLoss(20, 2.0, 3.74, 0.3, 0.8, each=((42.0, 10.0),) * 5)]
    assert "not paired" in words_of(elsewhere)[1], "other examples cannot be paired"


def test_the_paired_error_is_that_of_the_ratio_of_differences() -> None:
    found = measured([9.0, 9.0, 9.0], [3.0, 2.0, 4.0], [3.3, 2.1, 4.5])
    rise = ratio([3.0, 1.0, 5.0], [10.0] * 3)
    reach = student_quantile(1 - 0.025 / 2, 2) * rise.standard_error
    outcome, words = words_of(found)
    assert outcome == "cannot tell"
    assert rise.value < reach
    assert f"rose from 3 to 3.3, within the {reach:.2g} that chance could do (paired over the same 3 examples)" in words


@pytest.mark.parametrize("examples", [5, 40])
def test_a_level_stretch_seldom_turns(examples: int) -> None:
    """The best of many is lucky; who forgot that would see a turn in about one world of ten."""
    draw = np.random.default_rng(0)
    turned = 0
    for _ in range(200):
        level = draw.normal(4, 1, examples)
        epochs = [level + draw.normal(0, 0.1, examples) for _ in range(10)]
        turned += words_of(measured([*(level + 1)], *(epoch.tolist() for epoch in epochs)))[0] == "turned"
    assert turned <= 0.05 * 200


def test_what_still_falls_at_the_end_has_not_turned_and_asks_for_more() -> None:
    outcome, words = words_of(losses((4.0, 4.0), (3.0, 3.2), (2.5, 3.0)))
    assert outcome == "not turned"
    assert words.startswith("validation had not turned: it fell from 4 to 3,")
    assert words.endswith("train longer")


def test_what_hardly_falls_any_more_does_not_ask_for_more() -> None:
    outcome, words = words_of(losses((4.0, 4.0), (3.0, 3.0), (2.5, 2.99)))
    assert outcome == "not turned"
    assert "train longer" not in words
    assert "at the end hardly any more: from 3 since epoch 1, within the 0.028" in words


def test_of_two_validations_no_more_is_said_than_that_it_fell() -> None:
    assert words_of(losses((4.0, 4.0), (2.5, 3.0))) == ("not turned", "validation fell from 4 to 3")
    outcome, words = words_of(losses((4.0, 3.0), (2.5, 2.99)))
    assert outcome == "not turned"
    assert words.startswith("validation fell from 3 to 2.99, within the 0.028")


def test_a_rise_within_the_error_is_no_verdict_and_no_advice() -> None:
    found = losses((4.0, 4.0), (2.5, 3.1), (2.6, 3.12))
    outcome, words = words_of(found)
    assert outcome == "cannot tell"
    assert "rose from 3.1 to 3.12, within the 0.028" in words, "1.96 times the error of a difference of two losses"
    assert words.endswith("and training rose too, from 2.5 to 2.6")
    sure = [EpochLoss(one.step, one.epoch, one.validation, one.train, 0.001) for one in found]
    assert words_of(sure)[0] == "turned"


def test_a_model_that_only_got_worse_says_so_by_the_base() -> None:
    outcome, words = words_of(losses((3.0, 3.0), (2.5, 3.5), (1.9, 3.9)))
    assert outcome == "never better"
    assert words.startswith("validation was never better than the base: it rose from 3 to 3.9, beyond the 0.028")
    outcome, words = words_of(losses((3.0, 3.0), (2.5, 3.01)))
    assert outcome == "cannot tell"
    assert words.startswith("validation was lowest before training, and whether it got worse cannot be told")


def test_training_that_rises_too_is_no_overfitting() -> None:
    _, words = words_of(losses((3.0, 3.0), (2.5, 2.8), (5.0, 5.2)))
    assert "training rose too, from 2.5 to 5: that is no overfitting; a lower learning rate may help" in words
    assert "while training fell" not in words


def test_without_errors_a_rise_is_told_with_its_doubt() -> None:
    outcome, words = words_of(losses((4.0, 4.0), (2.5, 3.1), (1.9, 3.3), error=math.nan))
    assert outcome == "turned"
    assert "chance is not ruled out" in words


def test_numbers_that_differ_are_written_so() -> None:
    _, words = words_of(losses((5.0, 5.0), (4.0, 3.100001), (3.0, 3.100004)))
    assert "rose from 3.100001 to 3.100004" in words
    _, words = words_of(losses((5.0, 5.0), (3.0, 3.1), (2.0, 3.1)))
    assert words == "validation was lowest at epoch 1 and is the same at the end, 3.1"


def test_one_validation_says_nothing_of_a_turn() -> None:
    assert turn_of(losses((4.0, 4.0))) is None
    assert turn_of([]) is None
    assert epoch_table([])[1] == []


@given(st.lists(st.floats(0.1, 9), min_size=2, max_size=8), st.floats(0.001, 1))
def test_the_outcome_follows_the_numbers(held: list[float], error: float) -> None:
    found = losses(*((1.0, value) for value in held), error=error)
    turn = turn_of(found)
    assert turn is not None
    assert turn.best.validation == min(held)
    assert (turn.outcome == "not turned") == (turn.best is turn.last)
    assert turn.words.startswith("validation ")
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
    header, rows = epoch_table(found)
    assert rows == [
        [0.0, 0, 4.1, 4.0, 0.1, pytest.approx(-0.1), "base"],
        [1.0, 10, None, 3.0, None, None, "best"],
    ]
    assert {len(row) for row in rows} == {len(header)}
    assert "preferred" not in header
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
    header, rows = epoch_table(found)
    assert [row[header.index("preferred")] for row in rows] == [0.5, 0.8]


def test_the_losses_of_each_example_come_from_the_lines() -> None:
    each = [[20.0, 10], [35.0, 10]]
    (found,) = epoch_losses([validation(0, nats_per_token=2.75, each=each)])
    assert found.each == ((20.0, 10.0), (35.0, 10.0))
    (unknown,) = epoch_losses([validation(0, nats_per_token=2.75, each=[[20.0, 10], [None, 10]])])
    assert unknown.each == ()
