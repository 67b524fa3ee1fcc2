"""The loop: step, tell, probe, save, until the last step, a request to stop, or too many steps left out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NoReturn

from folio.errors import DataLost, Diverged, Interrupted, UserError
from folio.model.find import JUDGED_KEY
from folio.training.available_memory import forget_peak_on, peak_on
from folio.training.objective import UNITS, BatchSource, loss_key
from folio.training.plan import BatchPlan
from folio.training.spikes import REMEDY
from folio.training.state import StepResult, TrainingState
from folio.training.stopping import StopNow, StopRequest

Line = dict[str, Any]
Poll = Callable[[], None]
FINISHED = "finished"
"""The event with which a run ends well; its ``reason`` says why if that was before the last step."""


@dataclass(frozen=True)
class Probe:
    """Something to measure every so many steps, a fraction allowed (0: after the last only).

    ``run`` gets the step and a function to call now and then, which does not return once the run is to stop. It gives a
    metrics line; the scores in a line of kind "evaluation" are kept with the checkpoint.
    """

    every: int | Fraction
    run: Callable[[int, Poll], Line]

    def due(self, step: int, last: int) -> bool:
        return step == last or bool(self.every and step // self.every > (step - 1) // self.every)


def validation_loss(line: Line) -> float | None:
    """What makes a checkpoint the best unless something else is asked for: its loss on the validation split."""
    return loss_in(line) if line["kind"] == "validation" else None


def loss_in(line: Line) -> float:
    """The loss in a line of training or validation, whatever it is a mean over."""
    return float(next(line[key] for key in map(loss_key, UNITS) if key in line))


@dataclass
class Hooks:
    """What the loop calls: ``log`` for a line of metrics, ``save`` for a checkpoint with facts, ``on_step`` to show.

    ``settle`` waits until what ``save`` began is on the disk: before the loop says that it is. ``judge`` gives a number
    for those lines of probes that decide which checkpoint is best; the lowest is.

    On several ranks each calls its own; whoever is handed in decides which of them write.
    """

    log: Callable[[Line], None]
    save: Callable[[TrainingState, Line], None]
    probes: Sequence[Probe] = ()
    on_step: Callable[[Line], None] = lambda line: None
    settle: Callable[[], None] = lambda: None
    judge: Callable[[Line], float | None] = validation_loss
    before: Callable[[int, Poll], Line] | None = None
    """Measured before the first step; that decides nothing."""


@dataclass
class Pace:
    """How fast a step may be (for MFU); how long the run has been going and what was best, earlier sittings too."""

    flops_per_token: float
    peak_flops_per_s: float
    elapsed_s: float = 0.0
    best: float = math.inf
    since_best: int = 0
    """How many times a checkpoint was judged since the best one."""
    _mark: float = field(default_factory=time.perf_counter)

    def lap(self) -> float:
        """Seconds since the last lap, added to ``elapsed_s``."""
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        self.elapsed_s += seconds
        return seconds


def fit(
    state: TrainingState, source: BatchSource, plan: BatchPlan, hooks: Hooks, pace: Pace, *, unprobed: bool = False
) -> None:
    """Train from ``state.step`` to the configured last step, or until patience is at an end.

    A request to stop is answered after the micro-batch under way, or the block of a probe: the unfinished step is
    thrown away and the state of the last whole step saved, before :class:`Interrupted`. If that cut a probe short, the
    facts of the checkpoint say ``unprobed``, and the next ``fit`` is to begin with it. So it is where the data do not
    come any more, before :class:`DataLost`. Raises :class:`Diverged` when too many steps had to be left out or the loss
    runs away, before anything bad is saved.
    """
    pace.lap()
    forget_peak_on(state.runtime.device)
    with StopRequest.listening() as stop:
        sitting = _Sitting(state, source, plan, hooks, pace, stop)
        if state.step and not unprobed:
            sitting.saved = state.step  # what it goes on from, with what was measured of it
        if state.step == 0 and hooks.before is not None:
            sitting.measure_before(hooks.before)
        if unprobed:
            sitting.probe_and_save()
        while state.step < state.config.steps and not sitting.out_of_patience:
            try:
                result = state.train_step(source, plan, lambda: stop.made)
            except DataLost as error:
                sitting.give_up(error)
            if result is None:
                sitting.leave()
            else:
                sitting.tell(result)
                sitting.probe_and_save()
        if sitting.out_of_patience:
            sitting.save()
    hooks.settle()
    line: Line = {"kind": "event", "step": state.step, "event": FINISHED, "elapsed_s": pace.elapsed_s}
    line["peak_bytes"] = peak_on(state.runtime.device)
    if state.step < state.config.steps:
        line |= {"reason": f"no better validation in the last {pace.since_best}", "patience": state.config.patience}
    hooks.log(line)


@dataclass
class _Sitting:
    """What happens around the steps of one call of :func:`fit`."""

    state: TrainingState
    source: BatchSource
    plan: BatchPlan
    hooks: Hooks
    pace: Pace
    stop: StopRequest
    facts: Line = field(default_factory=dict)
    """What was measured of the weights after the last step: validation, scores, and by what they are judged."""
    saved: int = -1
    """The last step of which there is a checkpoint."""
    sound: bool = True
    """Whether the last loss was a number; if not, the weights may be to blame."""

    def tell(self, result: StepResult) -> None:
        seconds, step = self.pace.lap(), self.state.step
        tokens = self.tokens_seen - self.source.tokens_before(step - 1)
        line = {
            "kind": "train",
            "step": step,
            "tokens": tokens,
            loss_key(self.state.objective.unit): result.loss,
            "learning_rate": result.learning_rate,
            "grad_norm": result.grad_norm,
            "step_time_s": seconds,
            "data_wait_s": result.data_wait_s,
            "tokens_per_s": tokens / seconds,
            "mfu": self.pace.flops_per_token * tokens / seconds / self.pace.peak_flops_per_s,
            "elapsed_s": self.pace.elapsed_s,
        }
        self.hooks.log(line)
        self.sound = math.isfinite(result.nats)
        if result.left_out is not None:
            skipped = {"event": "skipped", "reason": result.left_out, "skipped": self.state.spikes.left_out}
            self.hooks.log({"kind": "event", "step": step, **skipped})
        self.hooks.on_step(line)
        self.state.spikes.stop_if_lost(step)

    def probe_and_save(self) -> None:
        """What is due after this step."""
        step, config = self.state.step, self.state.config
        self.facts = {}
        try:
            for probe in self.hooks.probes:
                if probe.due(step, config.steps):
                    self.run(probe)
        except StopNow:
            self.facts = {"unprobed": True}
            self.leave()
        except DataLost as error:
            self.facts = {"unprobed": True}
            self.give_up(error)
        except UserError as error:
            if self.state.runtime.ranks.world_size == 1 and not isinstance(error, Diverged):
                self.facts = {"unprobed": True}  # what cannot be measured must not cost the steps before
                self.save()
                self.hooks.settle()
            raise
        judged = self.facts.get(JUDGED_KEY, math.inf)
        improved = judged < self.pace.best
        self.pace.best = min(self.pace.best, judged)
        if JUDGED_KEY in self.facts:
            self.pace.since_best = 0 if improved else self.pace.since_best + 1
        on_time = bool(config.checkpoint_every and step % config.checkpoint_every == 0)
        if on_time or step == config.steps or (improved and config.save_best):
            self.save()

    def measure_before(self, measure: Callable[[int, Poll], Line]) -> None:
        try:
            self.measured(measure)
        except StopNow:
            self.leave()

    def measured(self, measure: Callable[[int, Poll], Line]) -> Line:
        with self.state.shipping_weights():
            line = {**measure(self.state.step, self.poll), "step": self.state.step}
        self.pace.lap()
        self.hooks.log({**line, "tokens_seen": self.tokens_seen, "elapsed_s": self.pace.elapsed_s})
        self.hooks.on_step(line)
        return line

    def run(self, probe: Probe) -> None:
        line = self.measured(probe.run)
        if line["kind"] == "validation":
            if not math.isfinite(loss_in(line)):
                raise Diverged(f"the validation loss became {loss_in(line)} at step {self.state.step}", REMEDY)
            kept = (*map(loss_key, UNITS), "bits_per_byte", "tokens", "accuracy", "pairs")
            self.facts |= {key: line[key] for key in kept if key in line}
        if line["kind"] == "evaluation":
            self.facts["scores"] = {**self.facts.get("scores", {}), line["name"]: line["scores"]}
        if (judged := self.hooks.judge(line)) is not None:
            self.facts[JUDGED_KEY] = judged

    def poll(self) -> None:
        if self.state.runtime.ranks.sum([self.stop.made])[0]:
            raise StopNow

    @property
    def tokens_seen(self) -> int:
        return self.source.tokens_before(self.state.step)

    @property
    def out_of_patience(self) -> bool:
        patience = self.state.config.patience
        return bool(patience) and self.pace.since_best >= patience

    def save(self) -> None:
        if self.saved != self.state.step:
            if not self.sound and not self.state.is_finite():
                raise Diverged(f"the weights are no longer numbers at step {self.state.step}", REMEDY)
            known = {JUDGED_KEY: None, **self.facts, "tokens_seen": self.tokens_seen, "elapsed_s": self.pace.elapsed_s}
            self.hooks.save(self.state, known)
            self.saved = self.state.step
            self.pace.lap()

    def give_up(self, error: DataLost) -> NoReturn:
        """Save, and end: the data do not come. Every rank knows."""
        self.save()
        self.hooks.settle()
        step = self.state.step
        self.hooks.log({"kind": "event", "step": step, "event": "data_lost", "reason": error.problem})
        raise DataLost(f"{error.problem}; saved after step {step} of {self.state.config.steps}", error.remedy) from None

    def leave(self) -> NoReturn:
        self.save()
        self.hooks.settle()
        by = self.stop.signal.name if self.stop.signal else "another rank"
        self.hooks.log({"kind": "event", "step": self.state.step, "event": "stopped", "signal": by})
        raise Interrupted(f"stopped by {by} after step {self.state.step} of {self.state.config.steps}; saved")
