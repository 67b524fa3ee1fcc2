"""How much is measured in the time there is: sequences, rounds and steps, from a first timing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from folio.errors import UserError
from folio.studies.ladder.rungs import Settings, Step
from folio.studies.ladder.shapes import Shape, accumulation_of

FEWEST_ROUNDS, MOST_ROUNDS = 3, 9
FEWEST_STEPS, ENOUGH_STEPS, MOST_STEPS = 20, 100, 2000
"""Steps of each training for its loss: those of a plan that has no time, what is planned for, and no more than that."""
FOR_SPEED = 0.65
"""Share of the time that speed may take at most; losses take what is left."""
COMPILING_S = 40.0
STARTED_TOGETHER = 0.6
"""Of the time that a process alone takes to start: those of a group start beside each other."""
LEARNERS_IN_EACH_OTHERS_WAY = 1.15
MORE_OF_A_SCHEDULE = 1.6
"""What a rung with a schedule trains in all over the steps of one: it ends its rate's fall twice."""
SCORING_STEPS = 12
"""Steps in the time that the held-out windows take, at both ends."""
SEEDS_OF_ENDS = 3
"""Trainings of the bottom and the tops at least: how far they lie apart is what a seed alone changes."""
TOGETHER = 6
"""Rungs measured in one group at most."""
SPARE = {"cpu": 0.85, "cuda": 0.75, "mps": 0.75}
"""Of the memory there is."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step: so many whatever its size (weights are read and updated), and so many for each sequence."""

    fixed_s: float
    each_s: float

    def of(self, sequences: int) -> float:
        return self.fixed_s + sequences * self.each_s


@dataclass(frozen=True)
class FirstTiming:
    """Of the bottom, of the first rung on the ladder's own device, and of trainings for losses."""

    most: int
    """Sequences that may be taken: on a GPU the most that the first rung had memory for."""
    bottom: StepTime
    device: StepTime
    muon_s: float
    """Muon's own work in a step, whatever the step's size."""
    peak_bytes: int
    start_s: float
    learning_s: tuple[float, float]
    """A step of the model that is trained for its losses: at the bottom, and at the top (taken from bf16 on)."""


@dataclass(frozen=True)
class SpeedPlan:
    """``sequences`` of a forward pass; ``rounds``; how many new rungs are in memory ``together``."""

    sequences: int
    rounds: int
    together: int
    expected_s: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan_speed(
    first: FirstTiming,
    shape: Shape,
    steps: Sequence[Step],
    minutes: float,
    rounds: int,
    memory: int,
    losses_s: float,
    spent_s: float = 0.0,
) -> SpeedPlan:
    """The most sequences, then the most rounds, that leave ``losses_s`` for the losses besides what is ``spent_s``.

    :class:`UserError` with the minutes that would do where not even the least fits.
    """
    measured = [step for step in steps if not step.refused]
    spare = SPARE[measured[-1].settings.device] * memory
    together = max(1, min(TOGETHER, int(spare / first.peak_bytes) - 2 if first.peak_bytes else TOGETHER))
    most = min(FOR_SPEED * 60 * minutes, 60 * minutes - losses_s - spent_s)
    candidates = [n for n in shape.speed.sequences if n <= first.most]
    least_rounds = rounds or FEWEST_ROUNDS
    sequences = next((n for n in candidates if speed_s(first, shape, measured, n, least_rounds, together) <= most), 0)
    if not sequences:
        least = speed_s(first, shape, measured, candidates[-1], least_rounds, together)
        enough = math.ceil(max(least / FOR_SPEED, least + losses_s + spent_s) / 60 + 0.2)
        raise UserError(
            f"--minutes {minutes:g} is too little for {len(measured)} rungs of shape '{shape.name}', which take about "
            f"{enough}",
            f"Give --minutes {enough}, fewer --rungs, or a smaller --shape.",
        )
    possible = range(least_rounds, (rounds or MOST_ROUNDS) + 1)
    fitting = [n for n in possible if speed_s(first, shape, measured, sequences, n, together) <= most]
    chosen = max(fitting, default=least_rounds)
    return SpeedPlan(sequences, chosen, together, speed_s(first, shape, measured, sequences, chosen, together))


def speed_s(
    first: FirstTiming, shape: Shape, measured: Sequence[Step], sequences: int, rounds: int, together: int
) -> float:
    """About how long it takes to time all rungs, with turns of the bottom and the rung below in every group."""
    bottom = first.bottom.of(sequences)
    times = [bottom, *(_step_s(first, shape, step.settings, sequences) for step in measured[1:])]
    seconds = first.start_s + 2 * bottom
    for start in range(1, len(measured), together):
        seconds += rounds * (max(shape.turn_s, bottom) + (max(shape.turn_s, times[start - 1]) if start > 1 else 0.0))
    for step, step_s in zip(measured[1:], times[1:], strict=True):
        seconds += STARTED_TOGETHER * first.start_s * step.settings.ranks + warm_up_of(step.settings) * step_s
        seconds += rounds * max(shape.turn_s, step_s) + COMPILING_S * step.settings.compile
    return seconds


def _step_s(first: FirstTiming, shape: Shape, settings: Settings, sequences: int) -> float:
    """A rough guess of a rung's step: what bf16 and kept pages save on CPUs with AVX512-BF16, and GPUs save more."""
    share = 1.0 if settings.products == "torch" else 0.65
    if settings.bf16:
        share = 0.3 if settings.keep_pages or settings.device != "cpu" else 0.45
    many = accumulation_of(shape.speed, sequences) if settings.accumulate else 1
    muon = first.muon_s if settings.optimizer == "muon" else 0.0
    return share * many * first.device.of(sequences) + muon


def warm_up_of(settings: Settings) -> int:
    """Steps before the first that counts. A step of several micro-batches has been through everything after one."""
    return 1 if settings.accumulate else 2


def learning_s(
    step_s: tuple[float, float], measured: Sequence[Step], steps: int, trainings: Sequence[int], learners: int = 1
) -> float:
    """About how long the losses take: of each rung so many ``trainings``, ``learners`` of them beside each other."""
    seconds = 0.0
    for step, many in zip(measured, trainings, strict=True):
        again = MORE_OF_A_SCHEDULE if step.settings.schedule == "wsd" else 1.0
        seconds += many * again * (steps + SCORING_STEPS) * step_s[step.settings.bf16 or step.settings.own_stack]
    return seconds * (1.0 if learners == 1 else LEARNERS_IN_EACH_OTHERS_WAY / learners)


def plan_steps(
    step_s: tuple[float, float], measured: Sequence[Step], seconds: float, trainings: Sequence[int], learners: int = 1
) -> int:
    """The steps of each training for its loss that fit in ``seconds``, in round numbers."""
    one = learning_s(step_s, measured, 1 - SCORING_STEPS, trainings, learners)
    steps = int(max(FEWEST_STEPS, min(MOST_STEPS, seconds / one - SCORING_STEPS)))
    return steps // 10 * 10
