"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from folio.training.config import ScheduleConfig


def rate_multiplier(step: int, steps: int, config: ScheduleConfig) -> float:
    """What the peak rate is multiplied with at ``step`` (from 1) of ``steps``.

    Warm-up rises as step / warmup_steps. "cosine" is Loshchilov and Hutter 2017 without restarts; "wsd" is warm-up,
    stable, decay (Hu et al. 2024) with a linear decay over the last ``decay_fraction`` of all steps. Both reach the
    floor at the last step.
    """
    warmup = min(config.warmup_steps, steps)
    if step < warmup:
        return step / warmup
    if config.kind == "constant":
        return 1.0
    if config.kind == "cosine":
        done = (step - warmup) / max(1, steps - warmup)
        return config.floor + (1 - config.floor) * 0.5 * (1 + math.cos(math.pi * done))
    decay_steps = max(1, min(round(config.decay_fraction * steps), steps - warmup))
    left = min(1.0, (steps - step) / decay_steps)
    return config.floor + (1 - config.floor) * left
