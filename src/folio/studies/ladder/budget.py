"""How much is measured in the time there is: sequences, rounds and steps, from a first timing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from folio.errors import UserError
from folio.studies.ladder.rungs import Step
from folio.studies.ladder.shapes import Shape, accumulation_of

FEWEST_ROUNDS, MOST_ROUNDS = 3, 9
FEWEST_STEPS, MOST_STEPS = 20, 2000
FOR_SPEED = 0.6
"""Share of the time that speed may take at most; losses take what is left."""
COMPILING_S = 40.0
LATER = 0.6
"""A usual rung's step over that of the first one on its device."""
LEARNS_AGAIN = 1.5
"""What a rung with a schedule trains in all over the steps of one: it ends its rate's fall twice."""
HEAVIER = 1.3
"""A step of Muon or of today's shapes over the bottom's, where models are small."""
SEEDS_OF_BOTTOM = 3
"""Trainings of the bottom at least: how far they lie apart is what a seed alone changes."""
TOGETHER = 6
"""Rungs measured in one group at most."""
SPARE = 0.75
"""Of the memory there is."""


@dataclass(frozen=True)
class FirstTiming:
    """Of the bottom (``bottom_s`` a step of ``sequences``), and of the first rung on the ladder's own device."""

    sequences: int
    most: int
    """Sequences that may be taken: on a GPU the most that the first rung had memory for."""
    bottom_s: float
    device_s: float
    peak_bytes: int
    start_s: float
    learning_s: float
    """A step of the model that is trained for its losses."""


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
    first: FirstTiming, shape: Shape, steps: Sequence[Step], minutes: float, rounds: int, seeds: int, memory: int
) -> SpeedPlan:
    """The most sequences, then the most rounds, that leave time for the losses.

    :class:`UserError` with the minutes that would do where not even the least fits.
    """
    measured = [step for step in steps if not step.refused]
    alive = int(SPARE * memory / first.peak_bytes) if first.peak_bytes else TOGETHER
    together = max(1, min(TOGETHER, alive - 2))
    most = FOR_SPEED * 60 * minutes
    candidates = [n for n in shape.speed.sequences if n <= first.most]
    least_rounds = rounds or FEWEST_ROUNDS
    sequences = next((n for n in candidates if _speed_s(first, shape, measured, n, least_rounds, together) <= most), 0)
    if not sequences:
        least = _speed_s(first, shape, measured, candidates[-1], least_rounds, together)
        least = max(least / FOR_SPEED, least + learning_s(first.learning_s, measured, FEWEST_STEPS, seeds))
        raise UserError(
            f"--minutes {minutes:g} is too little for {len(measured)} rungs of shape '{shape.name}', which take about "
            f"{math.ceil(1.1 * least / 60)}",
            f"Give --minutes {math.ceil(1.1 * least / 60)}, fewer --rungs, or a smaller --shape.",
        )
    possible = range(least_rounds, (rounds or MOST_ROUNDS) + 1)
    fitting = [n for n in possible if _speed_s(first, shape, measured, sequences, n, together) <= most]
    chosen = max(fitting, default=least_rounds)
    return SpeedPlan(sequences, chosen, together, _speed_s(first, shape, measured, sequences, chosen, together))


def _speed_s(
    first: FirstTiming, shape: Shape, measured: Sequence[Step], sequences: int, rounds: int, together: int
) -> float:
    many = sequences / first.sequences
    bottom, usual = many * first.bottom_s, many * LATER * first.device_s
    groups = math.ceil((len(measured) - 1) / together)
    seconds = groups * (first.start_s + 2 * bottom + rounds * (max(shape.turn_s, bottom) + max(shape.turn_s, usual)))
    for step in measured[1:]:
        one = usual * (accumulation_of(shape.speed, sequences) if step.settings.accumulate else 1)
        seconds += first.start_s + 2 * one + rounds * max(shape.turn_s, one) + COMPILING_S * step.settings.compile
    return seconds


def learning_s(step_s: float, measured: Sequence[Step], steps: int, seeds: int) -> float:
    """About how long the losses of all rungs take."""
    weight = 0.0
    for step in measured:
        again = LEARNS_AGAIN if step.settings.schedule == "wsd" else 1.0
        weight += again * (HEAVIER if step.settings.optimizer == "muon" else 1.0)
    more_of_bottom = max(0, SEEDS_OF_BOTTOM - seeds)
    return (seeds * weight + more_of_bottom) * (steps + 2) * step_s


def plan_steps(step_s: float, measured: Sequence[Step], seconds: float, seeds: int) -> int:
    """The steps of each training for its loss that fit in ``seconds``, in round numbers."""
    fitting = seconds / learning_s(step_s, measured, 1, seeds) * 3 - 2
    steps = int(max(FEWEST_STEPS, min(MOST_STEPS, fitting)))
    return steps // 10 * 10
