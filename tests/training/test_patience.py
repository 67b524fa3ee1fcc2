"""A run ends when so many validations in a row brought no better checkpoint, wherever it was stopped on the way."""

from __future__ import annotations

import math
import os
import signal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import fit_quietly, make_state

from folio.errors import Interrupted
from folio.model.find import JUDGED_KEY
from folio.training.loop import Hooks, Line, Pace, Poll, Probe, fit
from folio.training.state import TrainingState

LOSSES = [5.0, 4.0, 4.5, 4.0, 3.0, 3.5, 3.2, 3.1, 3.0, 2.0, 1.0, 0.5]
"""By step. The third and the fourth are no better than the second, nor the sixth to the ninth than the fifth."""


def told(losses: list[float], every: int = 1) -> Probe:
    """A validation that finds these losses."""
    return Probe(every, lambda step, poll: {"kind": "validation", "nats_per_token": losses[step - 1]})


def ending(patience: int, losses: list[float] = LOSSES, **train: Any) -> tuple[Line, list[tuple[int, Line]]]:
    """The last line of such a run, and what it saved."""
    state, source, plan = make_state(steps=len(losses), patience=patience, **train)
    saved: list[tuple[int, Line]] = []
    lines = fit_quietly(
        state, source, plan, probes=(told(losses),), save=lambda s, facts: saved.append((s.step, facts))
    )
    assert lines[-1]["event"] == "finished"
    return lines[-1], saved


@pytest.mark.parametrize(("patience", "end"), [(0, 12), (1, 3), (2, 4), (3, 8), (4, 9), (5, 12), (99, 12)])
def test_it_ends_after_so_many_validations_without_a_better_one(patience: int, end: int) -> None:
    last, saved = ending(patience)
    assert last["step"] == end
    assert saved[-1][0] == end
    if end < 12:
        assert last["patience"] == patience
        assert last["reason"] == f"no better validation in the last {patience}"
    else:
        assert "reason" not in last


def test_the_best_was_saved_with_its_loss_and_so_was_the_last() -> None:
    _, saved = ending(3)
    assert [(step, facts[JUDGED_KEY]) for step, facts in saved] == [(1, 5.0), (2, 4.0), (5, 3.0), (8, 3.1)]


def test_what_is_not_judged_does_not_count() -> None:
    """Steps without a validation, and lines of other probes."""
    state, source, plan = make_state(steps=12, patience=2)
    losses = [9.0, 5.0, 9.0, 6.0, 9.0, 6.0, 9.0, 6.0, 0.0, 0.0, 0.0, 0.0]
    other = Probe(1, lambda step, poll: {"kind": "evaluation", "name": "riddles", "scores": {}})
    lines = fit_quietly(state, source, plan, probes=(told(losses, 2), other))
    assert lines[-1]["step"] == 6  # 2, then 4 and 6 no better


def test_without_a_validation_it_trains_to_the_last_step() -> None:
    assert fit_quietly(*make_state(steps=4, patience=1))[-1]["step"] == 4


@settings(max_examples=15, deadline=None)
@given(losses=st.lists(st.integers(1, 5).map(float), min_size=1, max_size=10), patience=st.integers(1, 4))
def test_it_is_where_counting_by_hand_ends_it(losses: list[float], patience: int) -> None:
    lowest, since, end = math.inf, 0, len(losses)
    for step, loss in enumerate(losses, 1):
        lowest, since = (loss, 0) if loss < lowest else (lowest, since + 1)
        if since == patience:
            end = step
            break
    assert ending(patience, losses)[0]["step"] == end


@pytest.mark.parametrize("stop", range(1, 8))
def test_gone_on_with_from_any_step_it_ends_at_the_same(stop: int) -> None:
    """As a sitting does: the count of validations since the best goes into the next ``fit``."""
    state, source, plan = make_state(steps=12, patience=3)
    pace = Pace(1.0, 1.0)

    def interrupting(step: int, poll: Poll) -> Line:
        if step == stop and not interrupted:
            interrupted.append(step)
            os.kill(os.getpid(), signal.SIGTERM)
        return {"kind": "sample"}

    interrupted: list[int] = []
    lines: list[Line] = []
    hooks = Hooks(lines.append, lambda state, facts: None, (told(LOSSES), Probe(1, interrupting)))
    with pytest.raises(Interrupted):
        fit(state, source, plan, hooks, pace)
    again = Pace(1.0, 1.0, best=pace.best, since_best=pace.since_best)
    fit(state, source, plan, hooks, again)
    assert lines[-1]["step"] == 8


def test_gone_on_with_at_its_end_it_ends_there_and_keeps_what_was_saved() -> None:
    """Killed after the last save and before the last line."""
    state, source, plan = make_state(steps=12, patience=3)
    saved: list[tuple[int, Line]] = []

    def keep(state: TrainingState, facts: Line) -> None:
        saved.append((state.step, facts))

    lines: list[Line] = []
    hooks = Hooks(lines.append, keep, (told(LOSSES),))
    pace = Pace(1.0, 1.0)
    fit(state, source, plan, hooks, pace)
    once = list(saved)
    fit(state, source, plan, hooks, Pace(1.0, 1.0, best=pace.best, since_best=pace.since_best))
    assert saved == once
    assert [line["step"] for line in lines if line.get("event") == "finished"] == [8, 8]


def test_stopped_before_the_first_step_of_a_sitting_it_keeps_what_was_measured() -> None:
    """The checkpoint that it went on from is there, with its loss: it must not be written again without it."""
    state, source, plan = make_state(steps=12)
    saved: list[tuple[int, Line]] = []

    def fit_until(step: int, *, at_once: bool = False) -> None:
        def log(line: Line) -> None:
            if line["kind"] == "train" and line["step"] == step:
                os.kill(os.getpid(), signal.SIGTERM)

        def looked_up(index: int, rows: slice) -> Any:
            if at_once:
                os.kill(os.getpid(), signal.SIGTERM)
            return batch(index, rows)

        batch = source.batch
        source.batch = looked_up  # type: ignore[method-assign]
        hooks = Hooks(log, lambda state, facts: saved.append((state.step, facts)), (told(LOSSES),))
        try:
            with pytest.raises(Interrupted):
                fit(state, source, plan, hooks, Pace(1.0, 1.0))
        finally:
            source.batch = batch  # type: ignore[method-assign]

    fit_until(2)
    assert saved[-1][0] == 2
    measured = dict(saved)[2]
    fit_until(2, at_once=True)
    assert state.step == 2
    assert dict(saved)[2] == measured


def test_patience_is_a_number_of_validations() -> None:
    with pytest.raises(ValueError, match="patience"):
        make_state(patience=-1)
