"""What is left out as a spike: a step that stands alone, and not a run that has come to another place."""

from __future__ import annotations

import random

import pytest

from folio.errors import Diverged
from folio.training.config import SpikeConfig
from folio.training.spikes import SpikeGuard


def watched(norms: list[float], losses: list[float] | None = None) -> tuple[SpikeGuard, list[int]]:
    """A guard that has seen 128 quiet steps (loss 2.5, norm 0.5) and then these, and which of these it left out."""
    guard, chance = SpikeGuard(SpikeConfig()), random.Random(0)
    for _ in range(128):
        assert guard.judge(2.5 + chance.gauss(0, 0.02), 0.5 + chance.gauss(0, 0.05)) is None
    left_out = []
    for step, norm in enumerate(norms):
        loss = losses[step] if losses else 2.5 + chance.gauss(0, 0.02)
        if guard.judge(loss, norm + chance.gauss(0, 0.05)) is not None:
            left_out.append(step)
        guard.stop_if_lost(step)
    return guard, left_out


def test_one_spike_is_left_out_and_does_not_hide_the_next() -> None:
    norms = [0.5] * 60
    norms[10], norms[12], norms[40] = 500.0, 3.0, 2.0
    guard, left_out = watched(norms)
    assert left_out == [10, 12, 40]
    assert guard.left_out == 3


def test_gradients_that_grow_for_good_are_soon_taken_for_what_they_are() -> None:
    """A model that leaves a plateau: its gradients are three times as large, and its loss falls."""
    norms, losses = [1.5] * 100, [2.5 - 0.01 * step for step in range(100)]
    _, left_out = watched(norms, losses)
    assert left_out == list(range(len(left_out)))
    assert 1 <= len(left_out) <= 10


def test_a_loss_that_jumps_far_and_stays_there_ends_the_run() -> None:
    with pytest.raises(Diverged, match="20 of the last 128 steps"):
        watched([0.5] * 200, [8.0] * 200)


def test_numbers_that_are_none_are_left_out_and_not_remembered() -> None:
    guard, _ = watched([])
    before = guard.memory[:2].clone()
    assert guard.judge(float("nan"), 0.5) == "the loss is nan"
    assert guard.judge(2.5, float("inf")) == "the gradient norm is inf"
    assert guard.memory[:2].equal(before)
