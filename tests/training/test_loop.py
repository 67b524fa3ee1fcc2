"""The loop probes and saves when it should, leaves no trace by looking, leaves out bad steps, and stops when asked."""

from __future__ import annotations

import math
import os
import re
import signal
from typing import Any

import pytest
import torch
from tiny_training import GPT2, Counting, assert_same_bits, fit_quietly, make_state, run_steps, weights

from folio.errors import Diverged, Interrupted
from folio.training.loop import Line, Poll, Probe
from folio.training.objective import Rows
from folio.training.state import TrainingState
from folio.training.stopping import StopRequest


def test_one_line_a_step_with_units_in_the_names() -> None:
    lines = fit_quietly(*make_state(steps=3))
    train = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in train] == [1, 2, 3]
    assert train[0].keys() == {
        *("kind", "step", "tokens", "nats_per_token", "learning_rate", "grad_norm"),
        *("step_time_s", "data_wait_s", "tokens_per_s", "mfu", "elapsed_s"),
    }
    for line in train:
        assert line["tokens"] == 128
        assert line["tokens_per_s"] == pytest.approx(line["tokens"] / line["step_time_s"])
        assert line["mfu"] == pytest.approx(line["tokens_per_s"])  # 1 FLOP a token of a peak of 1 FLOP/s
    assert train[2]["elapsed_s"] >= sum(line["step_time_s"] for line in train)
    assert all(0 <= line["data_wait_s"] < line["step_time_s"] for line in train)
    assert lines[-1]["event"] == "finished"


def test_probes_run_when_due_and_after_the_last_step() -> None:
    seen: dict[str, list[int]] = {"often": [], "at the end": []}

    def probe(name: str, every: int) -> Probe:
        return Probe(every, lambda step, poll: (seen[name].append(step), {"kind": "sample"})[1])

    state, source, plan = make_state(steps=7)
    lines = fit_quietly(state, source, plan, probes=(probe("often", 3), probe("at the end", 0)))
    assert seen == {"often": [3, 6, 7], "at the end": [7]}
    samples = [line for line in lines if line["kind"] == "sample"]
    assert [(line["step"], line["tokens_seen"]) for line in samples] == [(3, 384), (6, 768), (7, 896), (7, 896)]


def greedy(state: TrainingState) -> Probe:
    """A probe that draws random numbers, runs the model and leaves it in another mode."""

    def run(step: int, poll: Poll) -> Line:
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
    probe = Probe(2, lambda step, poll: {"kind": "validation", "nats_per_token": losses[step // 2 - 1]})
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


def poisoned(at: range, value: float, **train: Any) -> tuple[TrainingState, Any, Any]:
    """A state whose loss is multiplied by ``value`` in the steps ``at``."""
    state, source, plan = make_state(**{"steps": 60, "checkpoint_every": 1, **train})
    forward = state.parallel.forward

    def spoiled(*args: Any) -> Any:
        nats, count = forward(*args)
        return (nats * value if state.step + 1 in at else nats), count

    state.parallel.forward = spoiled
    return state, source, plan


def test_a_step_whose_loss_or_gradient_is_no_number_is_left_out_counted_and_told() -> None:
    state, source, plan = poisoned(range(5, 7), math.nan, steps=8)
    lines: list[Line] = []
    before: dict[int, dict[str, torch.Tensor]] = {}
    fit_quietly(state, source, plan, lines=lines, save=lambda state, facts: before.update({state.step: weights(state)}))
    assert_same_bits(before[4], before[6])
    assert not torch.equal(before[6]["embed.weight"], before[7]["embed.weight"])
    skipped = [line for line in lines if line.get("event") == "skipped"]
    assert [(line["step"], line["reason"], line["skipped"]) for line in skipped] == [
        (5, "the loss is nan", 1),
        (6, "the loss is nan", 2),
    ]
    assert all(torch.isfinite(p).all() for p in state.model.parameters())


def test_a_gradient_that_is_no_number_is_left_out_too() -> None:
    state, source, plan = make_state(steps=2)
    state.model.embed.weight.register_hook(lambda gradient: gradient * math.inf)
    before = weights(state)
    lines = fit_quietly(state, source, plan)
    assert_same_bits(before, weights(state))
    assert next(line["reason"] for line in lines if line.get("event") == "skipped") in (
        "the gradient norm is nan",
        "the gradient norm is inf",
    )


def test_too_many_steps_left_out_stop_the_run_by_the_stated_rule() -> None:
    state, source, plan = poisoned(range(5, 99), math.nan, spikes={"stop_after": 7})
    saved: list[int] = []
    with pytest.raises(Diverged) as stopped:
        fit_quietly(state, source, plan, save=lambda state, facts: saved.append(state.step))
    assert stopped.value.problem == "7 of the last 11 steps had to be left out, up to step 11"
    assert "Lower the learning rate" in stopped.value.remedy
    assert saved[-1] == 10


def test_a_spike_is_left_out_and_the_run_goes_on_as_if_it_had_not_been() -> None:
    state, source, plan = poisoned(range(40, 41), 50.0, spikes={"window": 32})
    lines = fit_quietly(state, source, plan)
    (skipped,) = [line for line in lines if line.get("event") == "skipped"]
    assert skipped["step"] == 40
    assert re.fullmatch(
        r"the loss \d+(\.\d+)? lies \d+\.\d standard deviations above the last 32 \(\d\.\d+\)", skipped["reason"]
    )
    assert lines[-1]["event"] == "finished"
    careless, source, plan = poisoned(range(40, 41), 50.0, spikes={"z_score": 0})
    assert not [line for line in fit_quietly(careless, source, plan) if line.get("event") == "skipped"]


def test_a_loss_that_runs_away_stops_the_run() -> None:
    state, source, plan = poisoned(range(4, 99), 3.0)
    with pytest.raises(Diverged, match=r"the loss diverged: \d+\.\d+ around step 20, 3\.\d+ at the start"):
        fit_quietly(state, source, plan)


class Signalling(Counting):
    """Sends this process a signal, once, as the batch of one step is drawn."""

    def __init__(self, step: int, number: signal.Signals = signal.SIGTERM) -> None:
        super().__init__()
        self.step, self.number = step, number

    def batch(self, step: int, rows: slice = slice(None)) -> Rows:
        if step == self.step:
            self.step = -1
            os.kill(os.getpid(), self.number)
        return super().batch(step, rows)


NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_throws_the_unfinished_step_away_and_saves(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    state, _, plan = make_state(GPT2.model_copy(update={"dropout": 0.2}), micro_batch=2)
    saved: list[tuple[int, dict[str, torch.Tensor]]] = []
    lines: list[Line] = []
    with pytest.raises(Interrupted, match=rf"stopped by {number.name} after step 4 of 12; saved"):
        fit_quietly(
            state, Signalling(4, number), plan, lines=lines, save=lambda s, facts: saved.append((s.step, everything(s)))
        )
    assert lines[-1] == {"kind": "event", "step": 4, "event": "stopped", "signal": number.name}
    assert signal.getsignal(number) == before
    calm, source, plan = make_state(GPT2.model_copy(update={"dropout": 0.2}), micro_batch=2)
    run_steps(calm, source, plan, 4)
    (step, kept) = saved[0]
    assert step == 4
    assert_same_bits(kept, everything(calm))


def everything(state: TrainingState) -> dict[str, torch.Tensor]:
    return weights(state) | {name: value.clone() for name, value in state.tensors().items()}


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest.listening() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.made
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_amid_a_probe_saves_without_it_and_the_next_sitting_begins_with_it() -> None:
    state, source, plan = make_state()
    saved: list[tuple[int, Line]] = []
    began: list[int] = []

    def slow(step: int, poll: Poll) -> Line:
        began.append(step)
        if step == 4 and len(began) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            poll()
        return {"kind": "validation", "nats_per_token": 1.0}

    def keep(state: TrainingState, facts: Line) -> None:
        saved.append((state.step, facts))

    with pytest.raises(Interrupted, match="after step 4 of 12; saved"):
        fit_quietly(state, source, plan, probes=(Probe(2, slow),), save=keep)
    assert saved[-1][0] == 4
    assert saved[-1][1]["unprobed"] is True
    lines = fit_quietly(state, source, plan, probes=(Probe(2, slow),), save=keep, unprobed=True)
    assert [line["step"] for line in lines if line["kind"] == "validation"] == [4, 6, 8, 10, 12]
    assert all("unprobed" not in facts for step, facts in saved if step > 4)


@pytest.mark.parametrize("moment", ["log", "probe"])
def test_a_signal_between_step_and_save_is_answered_with_a_save(moment: str) -> None:
    """It used to be possible to leave with "saved" and nothing saved."""
    state, source, plan = make_state()
    saved: list[int] = []

    def interrupt(step: int, poll: Poll) -> Line:
        if moment == "probe" and step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"kind": "sample"}

    class Log(list[Line]):
        def append(self, line: Line) -> None:
            super().append(line)
            if moment == "log" and line["kind"] == "train" and line["step"] == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="after step 4 of 12; saved"):
        fit_quietly(
            state,
            source,
            plan,
            probes=(Probe(2, interrupt),),
            lines=Log(),
            save=lambda state, facts: saved.append(state.step),
        )
    assert saved == [4]


def test_a_signal_after_the_last_step_finishes_the_run() -> None:
    state, source, plan = make_state(steps=3)

    class Log(list[Line]):
        def append(self, line: Line) -> None:
            super().append(line)
            if line["kind"] == "train" and line["step"] == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    assert fit_quietly(state, source, plan, lines=Log())[-1]["event"] == "finished"


def test_a_second_signal_does_not_wait() -> None:
    with StopRequest.listening() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
