"""What is measured how often: decided once, from a few steps of the bottom, of the device and of small trainings."""

from __future__ import annotations

import time
from typing import Any

from folio.errors import UserError
from folio.studies.ladder.budget import (
    ENOUGH_STEPS,
    FirstTiming,
    SpeedPlan,
    StepTime,
    learning_s,
    plan_speed,
    plan_steps,
)
from folio.studies.ladder.contenders import Failed, closing
from folio.studies.ladder.losses import trainings_of
from folio.studies.ladder.measuring import SMALLER, Measuring
from folio.studies.ladder.rungs import Settings
from folio.studies.ladder.shapes import Model

PRODUCTS_OF_MUON = 300
"""Of n_embd^3 FLOP in a layer: 5 iterations of 6 for four square matrices, of 18 for two that are 4 times as long."""
SHARE_OF_PEAK = 0.75
LEARNING_STEPS = 9
ENDING_S = 12.0
"""For starting the learners, and for writing the page."""


def planned(
    work: Measuring, plan: dict[str, Any], minutes: float, rounds: int, steps: int, seeds: int, begun: float
) -> SpeedPlan:
    """How speed is measured: as planned before, or now, from a first timing, which is written into ``plan``.

    ``begun``: when the ladder was, by the monotonic clock.
    """
    if "speed" not in plan:
        first, trainings = first_timing(work), [trainings_of(step, work.measured, seeds) for step in work.measured]
        losses_s = learning_s(first.learning_s, work.measured, steps or ENOUGH_STEPS, trainings, work.learners)
        spent_s = time.monotonic() - begun
        speed = plan_speed(
            first, work.shape, work.steps, minutes, rounds, work.machine.memory, losses_s, spent_s=spent_s
        )
        plan |= {"speed": speed.as_dict(), "learning_step_s": first.learning_s, "timing_s": spent_s}
        work.folder.write_plan(plan)
    return SpeedPlan(**plan["speed"])


def planned_steps(work: Measuring, plan: dict[str, Any], minutes: float, steps: int, seeds: int) -> int:
    """Steps of each training: as given, as planned before, or as many as the time that speed left allows."""
    if steps:
        return steps
    if "steps" not in plan:
        left, sound = 60 * minutes - work.folder.spent_s() - plan["timing_s"], work.sound()
        trainings = [trainings_of(step, sound, seeds) for step in sound]
        low_s, high_s = plan["learning_step_s"]
        plan["steps"] = plan_steps((low_s, high_s), sound, left - ENDING_S, trainings, work.learners)
        work.folder.write_plan(plan)
    return int(plan["steps"])


def first_timing(work: Measuring) -> FirstTiming:
    """:class:`UserError` where the bottom, or the first rung on the device, cannot be measured at all."""
    work.tell("timing", 0, 3, "the bottom")
    candidates, on_device = work.shape.speed.sequences, Settings(device=work.machine.device)
    fewest = candidates[-1]
    one = _alone(work, Settings(), fewest)
    bottom = StepTime(0.0, one["seconds"] / fewest)
    if on_device == Settings():
        most, peak = candidates[0], one["peak_bytes"] or 0
        if len(candidates) > 1:
            more = _alone(work, Settings(), candidates[-2])
            bottom, peak = _line(fewest, one["seconds"], candidates[-2], more["seconds"]), more["peak_bytes"] or 0
        device = bottom
    else:
        work.tell("timing", 1, 3, "the first rung on the device")
        most, there = _most_that_fit(work, on_device)
        device, peak = StepTime(0.0, there["seconds"] / most), there["peak_bytes"] or 0
    work.tell("timing", 2, 3, "two small trainings")
    flops = (work.machine.peaks or {}).get(work.machine.device, 0.0) * SHARE_OF_PEAK
    muon_s = _flops_of_muon(work.shape.speed) / flops if flops else 0.0
    return FirstTiming(most, bottom, device, muon_s, peak, one["start_s"], _learning_s(work, on_device))


def _line(fewer: int, fewer_s: float, more: int, more_s: float) -> StepTime:
    each_s = min(max(0.0, (more_s - fewer_s) / (more - fewer)), fewer_s / fewer)
    return StepTime(fewer_s - fewer * each_s, each_s)


def _flops_of_muon(model: Model) -> float:
    return PRODUCTS_OF_MUON * model.n_layer * float(model.n_embd) ** 3


def _learning_s(work: Measuring, process: Settings) -> tuple[float, float]:
    """A step of the learner, without the windows' losses, at the bottom and at the highest kept rung."""
    top = [step for step in work.measured if step.kept][-1].settings
    seconds = []
    with closing({"": work.learner(process)}) as pool:
        learner = pool[""]
        learner.hear()
        for settings in (Settings(), top):
            chosen = work.as_learned(settings)
            asked = {"settings": chosen.as_dict(), "seed": 0, "ends": [LEARNING_STEPS]}
            seconds.append(learner.ask(asked)["seconds"])
    return seconds[0], seconds[1]


def _most_that_fit(work: Measuring, settings: Settings) -> tuple[int, dict[str, Any]]:
    for sequences in work.shape.speed.sequences:
        try:
            return sequences, _alone(work, settings, sequences)
        except Failed as error:
            trouble = error
            if "memory" not in str(error):
                break
    raise UserError(f"shape '{work.shape.name}' cannot be trained on {settings.device}: {trouble}", SMALLER)


def _alone(work: Measuring, settings: Settings, sequences: int) -> dict[str, Any]:
    """What the second step of a process of its own answers, and the seconds that it took to start."""
    begun = time.monotonic()
    try:
        with closing({"": work.timer(settings, sequences)}) as pool:
            one = pool[""]
            one.hear()
            start_s = time.monotonic() - begun
            one.ask({"steps": 1})
            return {**one.ask({"steps": 1}), "start_s": max(0.5, start_s)}
    except Failed as error:
        if settings == Settings():
            raise UserError(f"the bottom of the ladder cannot be measured: {error}", SMALLER) from None
        raise
