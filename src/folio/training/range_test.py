"""The learning-rate range test: one short training whose rate rises from step to step until training fails.

The rate moves by the same factor each step, so that its logarithm moves evenly (Smith 2017, "Cyclical Learning Rates
for Training Neural Networks", sec. 3.3, swept a line; an exponential sweep covers decades).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from folio.errors import ConfigError
from folio.training.config import ScheduleConfig, SpikeConfig
from folio.training.objective import BatchSource
from folio.training.plan import BatchPlan
from folio.training.rate_curve import FEWEST_STEPS, TOO_FAR_NATS, RunningMean, Sweep, decay_over, rate_text
from folio.training.spikes import SpikeGuard
from folio.training.state import TrainingState


def range_test(
    state: TrainingState,
    source: BatchSource,
    plan: BatchPlan,
    *,
    low: float,
    high: float,
    steps: int,
    asked_to_stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    on_untouched: Callable[[int], None] = lambda batches: None,
) -> Sweep | None:
    """Train a fresh ``state`` at rates from ``low`` to ``high``, and give the curve; None if it was asked to stop.

    The state is to be thrown away afterwards. The schedule does not count, and no step is left out as a spike; all else
    is as configured. With Muon, its rate moves along in the configured ratio to AdamW's. Besides ``steps`` + 1 steps it
    costs a forward pass for each, before the first: ``on_untouched`` is told the batches measured so. ``on_step`` is
    told the updates felt so far, and the loss. Collective over ranks.
    """
    if not 0 < low < high:
        raise ConfigError(f"a sweep from {low:g} to {high:g} does not rise", "Give a low rate below the high one.")
    if steps < FEWEST_STEPS:
        raise ConfigError(f"a sweep of {steps} steps shows no curve", f"Give at least {FEWEST_STEPS}.")
    assert state.step == 0
    state.config = state.config.model_copy(update={"steps": steps + 1, "schedule": ScheduleConfig(kind="constant")})
    state.spikes = SpikeGuard(SpikeConfig(z_score=0))
    untouched = _untouched_losses(state, source, plan, steps, asked_to_stop, on_untouched)
    if untouched is None:
        return None
    peaks = [(group, group["peak_lr"]) for optimizer in state.optimizers.all for group in optimizer.param_groups]
    rates = [low * (high / low) ** (index / (steps - 1)) for index in range(steps)]
    losses: list[float] = []
    mean, best, ended = RunningMean(decay_over(steps)), math.inf, ""
    while len(losses) < steps and not ended:
        rate = rates[min(state.step, steps - 1)]
        for group, peak in peaks:
            group["peak_lr"] = peak * rate / state.config.optimizer.learning_rate
        result = state.train_step(source, plan, asked_to_stop)
        if result is None:
            return None
        if state.step == 1:
            continue  # the first batch has felt no update
        felt = rates[len(losses)]
        if not math.isfinite(result.loss):
            ended = f"the loss became {result.loss} after an update at {rate_text(felt)}"
            break
        smoothed = mean.add(result.loss - untouched[len(losses)])
        losses.append(result.loss)
        on_step(len(losses), result.loss)
        best = min(best, smoothed)
        if smoothed > best + TOO_FAR_NATS:
            ended = f"at {rate_text(felt)} the perplexity was four times the best"
    return Sweep(tuple(rates[: len(losses)]), tuple(losses), tuple(untouched), ended)


def _untouched_losses(
    state: TrainingState,
    source: BatchSource,
    plan: BatchPlan,
    steps: int,
    asked_to_stop: Callable[[], bool],
    on_untouched: Callable[[int], None],
) -> list[float] | None:
    """The loss, as the model is, on the batches of steps 1 to ``steps``; None if asked to stop."""
    ranks, objective, losses = state.runtime.ranks, state.objective, []
    with state.shipping_weights(), torch.no_grad():
        for step in range(1, steps + 1):
            nats, count = 0.0, 0
            for number in range(plan.accumulation):
                batch = source.batch(step, plan.rows(number, ranks.rank))
                with state.runtime.autocast():
                    nats += float(objective.nats(state.parallel.forward, batch, state.runtime.device))
                count += objective.count(batch)
            all_nats, all_count, stopping = ranks.sum([nats, count, asked_to_stop()])
            if stopping:
                return None
            losses.append(all_nats / all_count)
            on_untouched(step)
    return losses
