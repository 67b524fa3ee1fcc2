"""What each rung learns: after equal steps, and in equal time.

Every rung trains a fresh model from the same seed on the same batches, as many tokens a step. N steps for each are
equal steps. Equal time is that in which the fastest rung takes its N: a rung that is r times as fast as the bottom,
where the fastest is R times, gets the loss after N r / R steps, at least one. So no clock runs while models train, and
a busy machine does not change a loss.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from folio.studies.ladder.budget import SEEDS_OF_ENDS
from folio.studies.ladder.contenders import Contender, Failed, closing, first_to_answer
from folio.studies.ladder.folder import loss_name
from folio.studies.ladder.measuring import Measuring
from folio.studies.ladder.rungs import Settings, Step, in_speed_part

SEED = 1337


def ratio_to_bottom(timed: dict[str, Any]) -> float:
    """How many times as fast as the bottom a rung is: the median over rounds."""
    return median(b / s for b, s in zip(timed["bottom"], timed["self"], strict=False)) if "bottom" in timed else 1.0


def steps_in_equal_time(work: Measuring, steps: int) -> dict[str, int]:
    """For each rung whose speed is known, the steps that it takes while the fastest kept one takes ``steps``."""
    ratios = {step: ratio_to_bottom(work.timed(step) or {}) for step in work.sound()}
    fastest = max(ratio for step, ratio in ratios.items() if step.kept)
    return {step.name: max(1, round(steps * min(1.0, ratio / fastest))) for step, ratio in ratios.items()}


def measure_losses(work: Measuring, steps: int, seeds: int) -> None:
    """Train every rung that was not yet: as many beside each other as there are cores, each in a process of its own.

    A process goes on to the next training if it has the settings that belong to the process, and is else replaced.
    """
    sound, in_equal_time = work.sound(), steps_in_equal_time(work, steps)
    todo = [(seed, step) for step in sound for seed in range(trainings_of(step, sound, seeds))]
    waiting = [(seed, s) for seed, s in todo if not _is_done(work, s, seed, steps, in_equal_time)]
    pool: dict[int, Contender] = {}
    busy: dict[int, _Training] = {}
    settings: dict[int, Settings] = {}
    with closing(pool):
        while waiting or busy:
            for place in range(work.learners):
                if waiting and place not in busy:
                    seed, step = waiting.pop(0)
                    busy[place] = training = _Training(step, seed, steps, in_equal_time[step.name])
                    process = _process(step.settings, work.machine.device)
                    if place in pool and settings[place] != process:
                        pool.pop(place).close()
                    if place not in pool:
                        pool[place], settings[place] = work.learner(process), process
                        training.starting = True
                    else:
                        _tell(work, pool, place, training)
            names = ", ".join(training.step.name for training in busy.values())
            work.tell("losses", len(todo) - len(waiting) - len(busy), len(todo), f"{steps:,} steps of {names}")
            place = _place_of(first_to_answer([pool[place] for place in busy]), pool)
            _hear(work, pool, place, busy)
    work.tell("losses", len(todo), len(todo), "")


@dataclass
class _Training:
    """One training under way in a learner."""

    step: Step
    seed: int
    whole: int
    part: int
    starting: bool = False
    """Whether its process is not yet loaded."""
    begun: float = field(default_factory=time.monotonic)


def _tell(work: Measuring, pool: Mapping[int, Contender], place: int, training: _Training) -> None:
    settings = work.as_learned(training.step.settings).as_dict()
    ends = [training.part, training.whole]
    pool[place].tell({"settings": settings, "seed": SEED + training.seed, "ends": ends})


def _hear(work: Measuring, pool: dict[int, Contender], place: int, busy: dict[int, _Training]) -> None:
    """Take what a learner says: that it is loaded, or the losses, which are written down; so is a failure."""
    training = busy[place]
    result: dict[str, Any] = {"steps": training.whole, "equal_time_steps": training.part}
    try:
        answer = pool[place].hear()
        if training.starting:
            training.starting = False
            _tell(work, pool, place, training)
            return
        losses = answer["losses"]
        result |= {"nats": losses[str(training.whole)], "equal_time_nats": losses[str(training.part)]}
    except Failed as error:
        result["failed"] = str(error)
        pool.pop(place).close()
    took_s = (time.monotonic() - training.begun) / work.learners
    work.folder.write(loss_name(training.step.name, training.seed), {**result, "took_s": took_s})
    del busy[place]


def _place_of(one: Contender, pool: Mapping[int, Contender]) -> int:
    return next(place for place, other in pool.items() if other is one)


def _is_done(work: Measuring, step: Step, seed: int, steps: int, in_equal_time: dict[str, int]) -> bool:
    known = work.folder.read(loss_name(step.name, seed))
    if known is None:
        return False
    return (known["steps"], known["equal_time_steps"]) == (steps, in_equal_time[step.name])


def _process(settings: Settings, device: str) -> Settings:
    """What of the settings is the process's own: allocator and fp32 products."""
    return Settings(device=device, keep_pages=settings.keep_pages, products=settings.products)


def trainings_of(step: Step, steps: Sequence[Step], seeds: int) -> int:
    """How often one of ``steps`` is trained: the bottom and the tops, which are judged, from three seeds at least."""
    kept = [one for one in steps if one.kept]
    ends = (kept[0], [one for one in kept if in_speed_part(one.name)][-1], kept[-1])
    return max(seeds, SEEDS_OF_ENDS) if step in ends else seeds


def all_losses(work: Measuring, step: Step, seeds: int) -> list[dict[str, Any]]:
    """What was measured of a rung, a seed each; only whole measurements."""
    many = trainings_of(step, work.sound(), seeds)
    found = [work.folder.read(loss_name(step.name, seed)) for seed in range(many)]
    return [one for one in found if one is not None and "nats" in one]
