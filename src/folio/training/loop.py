"""The loop: step, tell, probe, save, until the last step, a request to stop, or a loss that is no number."""

from __future__ import annotations

import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from folio.errors import Diverged, Interrupted
from folio.training.plan import BatchPlan
from folio.training.state import BatchSource, StepResult, TrainingState

Line = dict[str, Any]
DIVERGENCE_WINDOW = 20


@dataclass(frozen=True)
class Probe:
    """Something to measure every so many steps (0: after the last only).

    ``run`` gets the step and gives a metrics line; the lowest ``nats_per_token`` of a line of kind "validation" decides
    which checkpoint is best.
    """

    every: int
    run: Callable[[int], Line]

    def due(self, step: int, last: int) -> bool:
        return step == last or bool(self.every and step % self.every == 0)


@dataclass
class Hooks:
    """What the loop calls: ``log`` for a line of metrics, ``save`` for a checkpoint with facts, ``on_step`` to show."""

    log: Callable[[Line], None]
    save: Callable[[TrainingState, Line], None]
    probes: Sequence[Probe] = ()
    on_step: Callable[[Line], None] = lambda line: None


@dataclass
class Pace:
    """How fast a step may be (for MFU) and how long the run has been going, earlier sittings included."""

    flops_per_token: float
    peak_flops_per_s: float
    elapsed_s: float = 0.0
    best: float = math.inf
    _mark: float = field(default_factory=time.perf_counter)

    def lap(self) -> float:
        """Seconds since the last lap, added to ``elapsed_s``."""
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        self.elapsed_s += seconds
        return seconds


class StopRequest:
    """Set by the first SIGINT or SIGTERM; a second one interrupts at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

    @classmethod
    @contextmanager
    def listening(cls) -> Iterator[StopRequest]:
        request = cls()
        try:
            previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: signals go elsewhere
            yield request
            return
        try:
            yield request
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def fit(state: TrainingState, source: BatchSource, plan: BatchPlan, hooks: Hooks, pace: Pace) -> None:
    """Train from ``state.step`` to the configured last step.

    Raises :class:`Diverged` when a loss or gradient is not finite, or the loss runs away, before anything bad is saved;
    :class:`Interrupted` when asked to stop, after saving.
    """
    config = state.config
    watch = _Watch(scaled=state.scaler.is_enabled())
    behind = state.runtime.device.type == "cuda"  # read a step's numbers while the next one computes
    waiting: StepResult | None = None
    pace.lap()
    with StopRequest.listening() as stop:
        while state.step < config.steps:
            result = state.train_step(source, plan)
            stopping = stop.signal  # read once: a signal that comes later is answered after the next step
            due = _due(state.step, config, hooks.probes) or stopping is not None
            if waiting is not None:
                _tell(state.step - 1, waiting, plan, hooks, pace, watch)
                waiting = None
            if behind and not due:
                waiting = result
                continue
            _tell(state.step, result, plan, hooks, pace, watch)
            if due:
                _probe_and_save(state, plan, hooks, pace, stopping=stopping is not None)
            if stopping is not None and state.step < config.steps:
                hooks.log({"kind": "event", "step": state.step, "event": "stopped", "signal": stopping.name})
                raise Interrupted(f"stopped by {stopping.name} after step {state.step} of {config.steps}; saved")
    hooks.log({"kind": "event", "step": state.step, "event": "finished", "elapsed_s": pace.elapsed_s})


def _due(step: int, config: Any, probes: Sequence[Probe]) -> bool:
    saving = bool(config.checkpoint_every and step % config.checkpoint_every == 0)
    return saving or step == config.steps or any(probe.due(step, config.steps) for probe in probes)


def _tell(step: int, result: StepResult, plan: BatchPlan, hooks: Hooks, pace: Pace, watch: _Watch) -> None:
    loss, norm = float(result.nats) / result.tokens, float(result.grad_norm)
    seconds = pace.lap()
    line = {
        "kind": "train",
        "step": step,
        "tokens": plan.tokens,
        "nats_per_token": loss,
        "learning_rate": result.learning_rate,
        "grad_norm": norm,
        "step_time_s": seconds,
        "tokens_per_s": plan.tokens / seconds,
        "mfu": pace.flops_per_token * plan.tokens / seconds / pace.peak_flops_per_s,
        "elapsed_s": pace.elapsed_s,
    }
    hooks.log(line)
    hooks.on_step(line)
    watch.check(step, loss, norm)


def _probe_and_save(state: TrainingState, plan: BatchPlan, hooks: Hooks, pace: Pace, *, stopping: bool) -> None:
    config, step = state.config, state.step
    facts: Line = {}
    for probe in hooks.probes:
        if not probe.due(step, config.steps):
            continue
        with state.shipping_weights():
            line = probe.run(step)
        pace.lap()
        hooks.log({**line, "step": step, "tokens_seen": step * plan.tokens, "elapsed_s": pace.elapsed_s})
        hooks.on_step({**line, "step": step})
        if line["kind"] == "validation":
            facts = {key: line[key] for key in ("nats_per_token", "bits_per_byte", "tokens") if key in line}
    improved = facts.get("nats_per_token", math.inf) < pace.best
    pace.best = min(pace.best, facts.get("nats_per_token", math.inf))
    on_time = bool(config.checkpoint_every and step % config.checkpoint_every == 0)
    if stopping or on_time or step == config.steps or (improved and config.save_best):
        hooks.save(state, {**facts, "tokens_seen": step * plan.tokens, "elapsed_s": pace.elapsed_s})
        pace.lap()


class _Watch:
    """Notices a loss that is not finite, or that runs away: the mean of 20 above 1.25 times the first loss plus 0.25.

    With scaled losses (fp16) a gradient overflows now and then, and its step is left out: 20 in a row are too many.
    """

    def __init__(self, *, scaled: bool = False) -> None:
        self.overflows_allowed = DIVERGENCE_WINDOW if scaled else 0
        self.overflows = 0
        self.first: float | None = None
        self.recent: deque[float] = deque(maxlen=DIVERGENCE_WINDOW)

    def check(self, step: int, loss: float, norm: float) -> None:
        remedy = "Lower the learning rate, lengthen the warm-up, or clip harder; the last checkpoint is untouched."
        if not math.isfinite(loss):
            raise Diverged(f"the loss became {loss} at step {step}", remedy)
        self.overflows = 0 if math.isfinite(norm) else self.overflows + 1
        if self.overflows > self.overflows_allowed:
            raise Diverged(f"the gradient's norm became {norm} at step {step} (loss {loss:.4f})", remedy)
        self.first = loss if self.first is None else self.first
        self.recent.append(loss)
        mean = sum(self.recent) / len(self.recent)
        if len(self.recent) == DIVERGENCE_WINDOW and mean > 1.25 * self.first + 0.25:
            raise Diverged(f"the loss diverged: {mean:.3f} around step {step}, {self.first:.3f} at the start", remedy)
