"""What each rung learns: after equal steps, and in equal time.

Every rung trains a fresh model from the same seed on the same batches, as many tokens a step. N steps for each are
equal steps. Equal time is that in which the fastest rung takes its N: a rung that is r times as fast as the bottom,
where the fastest is R times, gets the loss after N r / R steps, at least one. So no clock runs while models train, and
a busy machine does not change a loss.
"""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median
from typing import Any

from folio.studies.ladder.budget import SEEDS_OF_BOTTOM, plan_steps
from folio.studies.ladder.contenders import Contender, Failed, closing
from folio.studies.ladder.folder import loss_name
from folio.studies.ladder.measuring import Measuring
from folio.studies.ladder.rungs import BOTTOM, Settings, Step

SEED = 1337


def ratio_to_bottom(timed: dict[str, Any]) -> float:
    """How many times as fast as the bottom a rung is: the median over rounds."""
    return median(b / s for b, s in zip(timed["bottom"], timed["self"], strict=False)) if "bottom" in timed else 1.0


def steps_in_equal_time(work: Measuring, steps: int) -> dict[str, int]:
    """For each rung whose speed is known, the steps that it takes while the fastest kept one takes ``steps``."""
    ratios = {step: ratio_to_bottom(work.timed(step) or {}) for step in work.sound()}
    fastest = max(ratio for step, ratio in ratios.items() if step.kept)
    return {step.name: max(1, round(steps * min(1.0, ratio / fastest))) for step, ratio in ratios.items()}


def planned_steps(work: Measuring, plan: dict[str, Any], minutes: float, steps: int, seeds: int) -> int:
    """N: as given, as planned before, or as many as the time that speed left allows."""
    if steps:
        return steps
    if "steps" not in plan:
        left = 60 * minutes - work.folder.spent_s() - plan.get("timing_s", 0.0)
        plan["steps"] = plan_steps(plan["learning_step_s"], work.sound(), left, seeds)
        work.folder.write_plan(plan)
    return int(plan["steps"])


def measure_losses(work: Measuring, steps: int, seeds: int) -> None:
    """Train every rung that was not yet, in as few processes as their settings of the process allow."""
    in_equal_time = steps_in_equal_time(work, steps)
    todo = [(seed, step) for step in work.sound() for seed in range(trainings_of(step, seeds))]
    waiting = [(seed, s) for seed, s in todo if not _is_done(work, s, seed, steps, in_equal_time)]
    done = len(todo) - len(waiting)
    while waiting:
        process = _process(waiting[0][1].settings, work.machine.device)
        mine = [(seed, s) for seed, s in waiting if _process(s.settings, work.machine.device) == process]
        pool: dict[str, Contender] = {}
        with closing(pool):
            for seed, step in mine:
                work.tell("losses", done, len(todo), f"training {step.name}, {steps:,} steps")
                begun, result = time.monotonic(), _ends(steps, in_equal_time[step.name])
                try:
                    if not pool:
                        pool[""] = work.learner(process)
                    result |= _losses(pool[""], step.settings, work.machine.device, SEED + seed, result)
                except Failed as error:
                    result["failed"] = str(error)
                    for name in list(pool):
                        pool.pop(name).close()
                work.folder.write(loss_name(step.name, seed), {**result, "took_s": time.monotonic() - begun})
                done += 1
        waiting = [one for one in waiting if one not in mine]
    work.tell("losses", done, len(todo), "")


def _is_done(work: Measuring, step: Step, seed: int, steps: int, in_equal_time: dict[str, int]) -> bool:
    known = work.folder.read(loss_name(step.name, seed))
    if known is None:
        return False
    return (known["steps"], known["equal_time_steps"]) == (steps, in_equal_time[step.name])


def _ends(steps: int, in_equal_time: int) -> dict[str, Any]:
    return {"steps": steps, "equal_time_steps": in_equal_time}


def _process(settings: Settings, device: str) -> Settings:
    """What of the settings is the process's own: allocator and fp32 products."""
    return Settings(device=device, keep_pages=settings.keep_pages, products=settings.products)


def _losses(one: Contender, settings: Settings, device: str, seed: int, ends: dict[str, Any]) -> dict[str, Any]:
    """The mean nats of every window at both ends: one training where the rate is constant, else one for each end."""
    chosen = replace(settings, device=device, ranks=1, compile=False)
    ask = {"settings": chosen.as_dict(), "seed": seed}
    whole, part = ends["steps"], ends["equal_time_steps"]
    if settings.schedule == "constant" or part == whole:
        answer = one.ask({**ask, "steps": whole, "at": [part, whole]})["losses"]
    else:
        answer = one.ask({**ask, "steps": whole, "at": [whole]})["losses"]
        answer |= one.ask({**ask, "steps": part, "at": [part]})["losses"]
    return {"nats": answer[str(whole)], "equal_time_nats": answer[str(part)]}


def trainings_of(step: Step, seeds: int) -> int:
    """How often a rung is trained: from so many seeds."""
    return max(seeds, SEEDS_OF_BOTTOM) if step.name == BOTTOM else seeds


def all_losses(work: Measuring, step: Step, seeds: int) -> list[dict[str, Any]]:
    """What was measured of a rung, a seed each; only whole measurements."""
    found = [work.folder.read(loss_name(step.name, seed)) for seed in range(trainings_of(step, seeds))]
    return [one for one in found if one is not None and "nats" in one]
