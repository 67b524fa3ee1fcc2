"""The loop probes and saves when it should, leaves no trace by looking, and stops at a loss that is none."""

from __future__ import annotations

import math
import os
import signal
from typing import Any

import pytest
import torch
from tiny_training import GPT2, Counting, assert_same_bits, fit_quietly, make_state, weights

from folio.errors import Diverged, Interrupted
from folio.training.loop import Line, Probe, StopRequest, _Watch
from folio.training.state import Rows, TrainingState


def test_one_line_a_step_with_units_in_the_names() -> None:
    lines = fit_quietly(*make_state(steps=3))
    train = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in train] == [1, 2, 3]
    assert train[0].keys() == {
        *("kind", "step", "tokens", "nats_per_token", "learning_rate", "grad_norm"),
        *("step_time_s", "tokens_per_s", "mfu", "elapsed_s"),
    }
    for line in train:
        assert line["tokens"] == 128
        assert line["tokens_per_s"] == pytest.approx(line["tokens"] / line["step_time_s"])
        assert line["mfu"] == pytest.approx(line["tokens_per_s"])  # 1 FLOP a token of a peak of 1 FLOP/s
    assert train[2]["elapsed_s"] >= sum(line["step_time_s"] for line in train)
    assert lines[-1]["event"] == "finished"


def test_probes_run_when_due_and_after_the_last_step() -> None:
    seen: dict[str, list[int]] = {"often": [], "at the end": []}

    def probe(name: str, every: int) -> Probe:
        return Probe(every, lambda step: (seen[name].append(step), {"kind": "sample"})[1])

    state, source, plan = make_state(steps=7)
    lines = fit_quietly(state, source, plan, probes=(probe("often", 3), probe("at the end", 0)))
    assert seen == {"often": [3, 6, 7], "at the end": [7]}
    samples = [line for line in lines if line["kind"] == "sample"]
    assert [(line["step"], line["tokens_seen"]) for line in samples] == [(3, 384), (6, 768), (7, 896), (7, 896)]


def greedy(state: TrainingState) -> Probe:
    """A probe that draws random numbers, runs the model and leaves it in another mode."""

    def run(step: int) -> Line:
        torch.randn(step)
        assert not state.model.training
        with torch.no_grad():
            logits = state.model(torch.randint(0, 37, (2, 16)))
        return {"kind": "validation", "nats_per_token": float(logits.mean()) + step}

    return Probe(2, run)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_probes_leave_no_trace_on_the_bits_of_the_run(ema: float) -> None:
    ends = []
    for probing in (False, True):
        state, source, plan = make_state(GPT2.model_copy(update={"dropout": 0.2}), ema_decay=ema)
        fit_quietly(state, source, plan, probes=(greedy(state),) if probing else ())
        ends.append(weights(state))
    assert_same_bits(*ends)


def saves(losses: list[float], **train: Any) -> list[tuple[int, float | None]]:
    """The steps at which a run whose validation losses (every second step) are given saves, and the loss it notes."""
    state, source, plan = make_state(steps=2 * len(losses), **train)
    probe = Probe(2, lambda step: {"kind": "validation", "nats_per_token": losses[step // 2 - 1]})
    saved: list[tuple[int, float | None]] = []
    fit_quietly(
        state,
        source,
        plan,
        probes=(probe,),
        save=lambda state, facts: saved.append((state.step, facts.get("nats_per_token"))),
    )
    return saved


def test_a_checkpoint_for_the_best_for_every_n_and_for_the_last() -> None:
    losses = [3.0, 2.0, 2.5, 1.0, 1.5]
    assert saves(losses) == [(2, 3.0), (4, 2.0), (8, 1.0), (10, 1.5)]
    assert saves(losses, save_best=False) == [(10, 1.5)]
    assert saves(losses, save_best=False, checkpoint_every=3) == [(3, None), (6, 2.5), (9, None), (10, 1.5)]


def diverging(at: int, value: float) -> tuple[TrainingState, Any, Any]:
    """A state whose loss becomes ``value`` at step ``at``."""
    state, source, plan = make_state(steps=30, checkpoint_every=1)
    forward = state.forward

    def poisoned(*args: Any) -> Any:
        nats, count = forward(*args)
        return (nats * value if state.step + 1 >= at else nats), count

    state.forward = poisoned
    return state, source, plan


def test_a_loss_that_is_no_number_stops_the_run_at_its_step_and_nothing_bad_is_saved() -> None:
    state, source, plan = diverging(5, math.nan)
    saved: list[int] = []
    lines: list[Line] = []
    with pytest.raises(Diverged) as stopped:
        fit_quietly(state, source, plan, lines=lines, save=lambda state, facts: saved.append(state.step))
    assert stopped.value.problem == "the loss became nan at step 5"
    assert "Lower the learning rate" in stopped.value.remedy
    assert saved == [1, 2, 3, 4]
    assert math.isnan(lines[-1]["nats_per_token"])
    assert all(torch.isfinite(p).all() for p in state.model.parameters())


def test_a_gradient_that_is_no_number_stops_the_run_too() -> None:
    state, source, plan = make_state()
    state.model.embed.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(Diverged, match=r"the gradient's norm became (nan|inf) at step 1 \(loss 3\.\d+\)"):
        fit_quietly(state, source, plan)


def test_a_loss_that_runs_away_stops_the_run() -> None:
    state, source, plan = diverging(4, 3.0)
    with pytest.raises(Diverged, match=r"the loss diverged: \d+\.\d+ around step 20, 3\.\d+ at the start"):
        fit_quietly(state, source, plan)


def test_a_bad_moment_is_no_divergence() -> None:
    watch = _Watch()
    for step, loss in enumerate([4.0] * 19 + [9.0] + [4.0] * 40, 1):
        watch.check(step, loss, 1.0)


def test_scaled_losses_may_overflow_now_and_then_but_not_for_good() -> None:
    watch = _Watch(scaled=True)
    for step in range(1, 60):
        watch.check(step, 4.0, math.inf if step % 20 else 1.0)  # 19 in a row, thrice
    watch.check(60, 4.0, math.inf)
    with pytest.raises(Diverged, match="norm became inf at step 61"):
        watch.check(61, 4.0, math.inf)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_step_and_a_save(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    class Signalling(Counting):
        def batch(self, step: int, rows: slice = slice(None)) -> Rows:
            if step == 4:
                os.kill(os.getpid(), number)
            return super().batch(step, rows)

    state, _, plan = make_state()
    saved: list[int] = []
    lines: list[Line] = []
    with pytest.raises(Interrupted, match=rf"stopped by {number.name} after step 5 of 12; saved"):
        fit_quietly(state, Signalling(), plan, lines=lines, save=lambda state, facts: saved.append(state.step))
    assert saved == [5]
    assert lines[-1] == {"kind": "event", "step": 5, "event": "stopped", "signal": number.name}
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("moment", ["log", "probe"])
def test_a_signal_between_step_and_save_is_answered_after_the_next_step_saved(moment: str) -> None:
    """It used to be possible to leave with "saved" and nothing saved."""
    state, source, plan = make_state()
    saved: list[int] = []
    lines: list[Line] = []

    def interrupt(step: int) -> Line:
        if moment == "probe" and step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"kind": "sample"}

    class Log(list[Line]):
        def append(self, line: Line) -> None:
            super().append(line)
            if moment == "log" and line["kind"] == "train" and line["step"] == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    lines = Log()
    with pytest.raises(Interrupted, match="after step 5 of 12; saved"):
        fit_quietly(
            state,
            source,
            plan,
            probes=(Probe(2, interrupt),),
            lines=lines,
            save=lambda state, facts: saved.append(state.step),
        )
    assert saved == [5]


def test_a_signal_at_the_last_step_finishes_the_run() -> None:
    state, _, plan = make_state(steps=3)

    class Signalling(Counting):
        def batch(self, step: int, rows: slice = slice(None)) -> Rows:
            if step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().batch(step, rows)

    assert fit_quietly(state, Signalling(), plan)[-1]["event"] == "finished"


def test_a_second_signal_does_not_wait() -> None:
    with StopRequest.listening() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
