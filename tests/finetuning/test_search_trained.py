"""A search over real training: one start for all, exact snapshots, a winner that a stop on the way does not change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
import torch
from tiny_training import GPT2, SHAPE, Counting, assert_same_bits, make_state, weights

from folio.errors import Interrupted
from folio.finetuning.search import trained
from folio.finetuning.search.choice import choose
from folio.finetuning.search.config import SearchConfig
from folio.finetuning.search.halving import Loss, Result, halve
from folio.finetuning.search.settings import Setting, settings_of
from folio.finetuning.search.trained import TrainedTrial
from folio.model.config import GPTConfig
from folio.training.state import TrainingState

RATES = (1e-5, 1e-4, 1e-3, 1e-2, 3.0)
SETTINGS = settings_of(SearchConfig(kind="list", learning_rates=RATES))
BUDGET = 24


@torch.no_grad()
def measure(state: TrainingState) -> Loss:
    """Of a batch that is never trained on."""
    rows_BT = torch.from_numpy(Counting().batch(10_000))
    nats, count = state.model(rows_BT[:, :-1], rows_BT[:, 1:])
    return Loss(float(nats) / int(count))


def trial_at(
    rate: float,
    shape: GPTConfig = SHAPE,
    asked: Callable[[], bool] = lambda: False,
    seen: list[float] | None = None,
    **train: Any,
) -> TrainedTrial:
    state, source, plan = make_state(shape, steps=BUDGET, optimizer={"learning_rate": rate}, **train)

    def validate(step: int, poll: Callable[[], None]) -> Loss:
        poll()
        return measure(state)

    note = (lambda step, loss: seen.append(loss)) if seen is not None else (lambda step, loss: None)
    return TrainedTrial(state, source, plan, validate, asked, note)


def search(known: Sequence[Result] = (), asked: Callable[[], bool] = lambda: False) -> list[Result]:
    told: list[Result] = []

    def open_trial(setting: Setting) -> TrainedTrial:
        return trial_at(setting.rate, GPT2, asked)

    with suppress(Interrupted):
        halve(SETTINGS, [BUDGET] * len(SETTINGS), 2, open_trial, known, told.append)
    return told


def facts(results: Sequence[Result]) -> list[tuple[int, int, int, float, str]]:
    return [(one.setting, one.rung, one.step, one.loss.nats, one.lost) for one in results]


@pytest.fixture(scope="module")
def whole() -> list[Result]:
    return search()


def test_the_best_of_real_rates_wins_over_ones_too_low_and_too_high(whole: list[Result]) -> None:
    choice = choose(SETTINGS, whole, "token")
    assert choice.values == {"train.optimizer.learning_rate": 1e-2}
    assert [one.step for one in whole] == [6] * 5 + [12] * 3 + [24] * 2
    by_rate = {SETTINGS[one.setting - 1].rate: one.loss.nats for one in whole if one.rung == 1}
    assert by_rate[1e-5] > by_rate[1e-4] > by_rate[1e-3] > by_rate[1e-2] < by_rate[3.0]


def test_every_trial_begins_with_the_same_weights_data_and_validation() -> None:
    firsts = []
    for rate in RATES:
        seen: list[float] = []
        trial = trial_at(rate, seen=seen)
        before = trial.loss().nats, weights(trial.state)
        trial.train_to(1)
        firsts.append((before, seen))
    assert len({(nats, losses[0]) for (nats, _), losses in firsts}) == 1
    for (_, begun), _ in firsts[1:]:
        assert_same_bits(firsts[0][0][1], begun)


@pytest.mark.parametrize(
    ("kind", "ema_decay"), [("adamw", 0.0), ("adamw", 0.9), ("muon", 0.0)], ids=["plain", "average", "muon"]
)
def test_a_survivor_goes_on_as_if_it_had_never_stopped(kind: str, ema_decay: float) -> None:
    shape = GPT2.model_copy(update={"dropout": 0.1})
    options: dict[str, Any] = {"optimizer": {"kind": kind, "learning_rate": 1e-2}, "steps": BUDGET}
    options["ema_decay"] = ema_decay

    def fresh() -> TrainedTrial:
        state, source, plan = make_state(shape, **options)
        return TrainedTrial(state, source, plan, lambda step, poll: measure(state))

    straight = fresh()
    straight.train_to(20)
    first = fresh()
    first.train_to(8)
    first.loss()
    snapshot = first.snapshot()
    first.train_to(20)  # what was copied must not move along
    torch.manual_seed(99)
    second = fresh()
    second.restore(snapshot)
    assert second.state.step == 8
    second.train_to(20)
    assert_same_bits(weights(straight.state), weights(second.state))
    assert straight.loss() == second.loss()


def test_frozen_weights_are_not_copied() -> None:
    trial = trial_at(1e-3)
    trial.state.model.embed.requires_grad_(False)
    snapshot = trial.snapshot()
    assert snapshot is not None
    assert "embed.weight" not in snapshot.shipped
    assert snapshot.shipped


def test_no_snapshot_is_taken_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trial_at(1e-3)
    assert trial.snapshot() is not None
    monkeypatch.setattr(trained, "available_memory", lambda device: 1000)
    assert trial.snapshot() is None


@pytest.mark.parametrize("polls", [1, 40, 70])
def test_a_search_that_is_stopped_and_taken_up_again_ends_the_same(whole: list[Result], polls: int) -> None:
    left = iter(range(polls))
    first = search(asked=lambda: next(left, None) is None)
    assert facts(first) == facts(whole)[: len(first)]
    assert len(first) < len(whole)
    second = search(known=first)
    assert facts([*first, *second]) == facts(whole)
    assert choose(SETTINGS, [*first, *second], "token") == choose(SETTINGS, whole, "token")


def test_a_request_to_stop_is_heard_while_validating() -> None:
    trial = trial_at(1e-3, asked=lambda: True)
    with pytest.raises(Interrupted):
        trial.loss()
