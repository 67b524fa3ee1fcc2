"""Two sides while they train: how far apart their losses are step by step, and how many steps one needs fewer.

A curve is (step, loss) by rising step; a pair of curves is those of the reference and of the other, and every
difference is the other's minus the reference's, so below zero the other leads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from folio.evaluation.estimates import Estimate
from folio.studies.findings.judged import Judged, complete, judged

Curve = Sequence[tuple[float, float]]
EARLY = 0.25
"""What counts as early: this share of the steps."""
GOALS = (0.5, 1.0)
"""Shares of the reference's training, at which its loss is what the other has to come to."""


@dataclass(frozen=True)
class Sides:
    """A pair of runs: their curves, and what the other's start cost more than the reference's, in its steps."""

    reference: Curve
    other: Curve
    cost_steps: float = math.nan


@dataclass(frozen=True)
class Stretch:
    """Neighbouring validations at which every interval lies on one side of zero: ``sign`` -1 where the other leads."""

    sign: int
    first: float
    last: float


@dataclass(frozen=True)
class HeadStart:
    """How many steps fewer the other needs for the loss that the reference has at share ``goal`` of its training.

    ``steps``, and the same as a ``share`` of the reference's training, are None where a pair never came there:
    ``missed`` of ``pairs``. ``paid`` and ``paid_share`` are what is left of them after ``cost``; all three are None
    where no start is known to have cost anything.
    """

    goal: float
    pairs: int
    missed: int
    steps: Estimate | None
    share: Estimate | None
    cost: Estimate | None
    paid: Estimate | None
    paid_share: Estimate | None


@dataclass(frozen=True)
class Lead:
    """The differences at each of ``steps``, their mean ``early`` in training, and the head starts."""

    steps: tuple[float, ...]
    differences: tuple[Estimate, ...]
    early: Judged | None
    early_until: float
    stretches: tuple[Stretch, ...]
    head_starts: tuple[HeadStart, ...]

    @property
    def settled_from(self) -> float | None:
        """The step from which on all intervals lie on one side; None if the last does not."""
        last = self.stretches[-1] if self.stretches else None
        return last.first if last is not None and last.last == self.steps[-1] else None


def lead_of(pairs: Sequence[Mapping[int, Sides]]) -> Lead | None:
    """From the curves of each combination, by seed; None where there are not two steps that all of them have.

    Whatever is averaged is averaged over the same combinations and seeds at every step.
    """
    drawn = [{seed: _plain(sides) for seed, sides in one.items()} for one in pairs]
    drawn = [{seed: sides for seed, sides in one.items() if sides.reference and sides.other} for one in drawn]
    whole = complete([one for one in drawn if one])
    curves = [dict(curve) for one in whole for sides in one.values() for curve in (sides.reference, sides.other)]
    steps = sorted(step for step in (curves[0] if curves else ()) if step > 0 and all(step in one for one in curves))
    if len(steps) < 2:
        return None
    found = [_judged(whole, [step]) for step in steps]
    differences = tuple(one.estimate for one in found)
    early = [step for step in steps if step <= EARLY * steps[-1]]
    return Lead(
        tuple(steps),
        differences,
        _judged(whole, early) if early else None,
        early[-1] if early else math.nan,
        _stretches(steps, differences),
        tuple(one for goal in GOALS if (one := _head_start(whole, goal)) is not None),
    )


def _plain(sides: Sides) -> Sides:
    """Without losses that are no numbers."""
    reference, other = (
        tuple(one for one in curve if math.isfinite(one[1])) for curve in (sides.reference, sides.other)
    )
    return Sides(reference, other, sides.cost_steps)


def _judged(whole: Sequence[Mapping[int, Sides]], steps: Sequence[float]) -> Judged:
    """The mean difference over ``steps``, which every curve has."""

    def difference(sides: Sides) -> float:
        other, reference = dict(sides.other), dict(sides.reference)
        return fmean(other[step] - reference[step] for step in steps)

    found = judged([{seed: difference(sides) for seed, sides in one.items()} for one in whole])
    assert found is not None
    return found


def _stretches(steps: Sequence[float], differences: Sequence[Estimate]) -> tuple[Stretch, ...]:
    found: list[Stretch] = []
    before = 0
    for step, one in zip(steps, differences, strict=True):
        sign = -1 if one.high < 0 else 1 if one.low > 0 else 0
        if sign and sign == before:
            found[-1] = Stretch(sign, found[-1].first, step)
        elif sign:
            found.append(Stretch(sign, step, step))
        before = sign
    return tuple(found)


def _head_start(whole: Sequence[Mapping[int, Sides]], goal: float) -> HeadStart | None:
    """None where a reference was not measured so early."""
    every = [sides for one in whole for sides in one.values()]
    if any(goal * sides.reference[-1][0] < sides.reference[0][0] for sides in every):
        return None

    def over(value: Callable[[Sides], float]) -> Estimate | None:
        values = [{seed: value(sides) for seed, sides in one.items()} for one in whole]
        known = all(math.isfinite(one) for by_seed in values for one in by_seed.values())
        found = judged(values) if known else None
        return None if found is None else found.estimate

    return HeadStart(
        goal,
        len(every),
        sum(math.isnan(fewer_steps(sides, goal)) for sides in every),
        over(lambda sides: fewer_steps(sides, goal)),
        over(lambda sides: fewer_steps(sides, goal) / sides.reference[-1][0]),
        over(lambda sides: sides.cost_steps),
        over(lambda sides: fewer_steps(sides, goal) - sides.cost_steps),
        over(lambda sides: (fewer_steps(sides, goal) - sides.cost_steps) / sides.reference[-1][0]),
    )


def fewer_steps(sides: Sides, goal: float) -> float:
    """How much sooner the other first comes to the lowest loss of the reference's first ``goal`` of training, in steps.

    Both are read the same way, straight lines between the validations. Not a number where it never does.
    """
    end = goal * sides.reference[-1][0]
    before = [point for point in sides.reference if point[0] <= end]
    level = min([loss for _, loss in before] + [_at(sides.reference, end)])
    return _reached(sides.reference, level) - _reached(sides.other, level)


def _at(curve: Curve, step: float) -> float:
    """The loss at a step between the first and the last of the curve."""
    for (left, high), (right, low) in pairwise(curve):
        if left <= step <= right:
            return high + (low - high) * (step - left) / (right - left)
    return curve[-1][1]


def _reached(curve: Curve, level: float) -> float:
    """The step at which the curve first is at ``level`` or below it; at its first step at the earliest."""
    if curve[0][1] <= level:
        return curve[0][0]
    for (left, high), (right, low) in pairwise(curve):
        if low <= level:
            return left + (right - left) * (high - level) / (high - low)
    return math.nan
