"""Means over seeds, and how far apart the values of an axis are, all else being equal.

Seeds are what chance draws; the other axes of a grid are fixed. So a mean is over the seeds of one combination, and a
difference is taken pair by pair (same other axes, same seed), averaged over the combinations, and judged over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean
from typing import Any

from folio.evaluation.comparing.paired import student_interval
from folio.evaluation.estimates import Estimate, mean
from folio.evaluation.significance import holm
from folio.studies.results import CellResult, Results

OVER_SEEDS = "Student's t over seeds"
OVER_CELLS = "Student's t over combinations of the other axes, one seed"
LEVEL = 0.05


@dataclass(frozen=True)
class Group:
    """One combination of the axes: its cells that are finished, by seed, and how many more were lost or are missing."""

    values: Mapping[str, Any]
    cells: Mapping[int, CellResult]
    diverged: int
    missing: int

    def estimate(self, measure: str) -> Estimate | None:
        """The mean over seeds with Student's 95 % interval; None if nothing was measured."""
        scores = [cell.score(measure) for cell in self.cells.values()]
        scores = [score for score in scores if math.isfinite(score)]
        return mean(scores) if scores else None

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(map(repr, self.values.values()))


def groups_of(results: Results) -> list[Group]:
    """The combinations of the axes that vary, in the study's order."""
    found: dict[tuple[str, ...], list[CellResult]] = {}
    for cell in results.cells:
        found.setdefault(tuple(repr(cell.values.get(axis)) for axis in results.axes), []).append(cell)
    groups = []
    for members in found.values():
        finished = {cell.seed: cell for cell in members if cell.status == "finished"}
        diverged = sum(cell.status == "diverged" for cell in members)
        values = {axis: members[0].values.get(axis) for axis in results.axes}
        groups.append(Group(values, finished, diverged, len(members) - len(finished) - diverged))
    return groups


def ranked(groups: Sequence[Group], measure: str, lower: bool) -> list[Group]:
    """The best mean first; those of which a seed diverged after all others, those without a score last."""

    def place(group: Group) -> tuple[int, float]:
        estimate = group.estimate(measure)
        if estimate is None:
            return 2, 0.0
        return int(group.diverged > 0), estimate.value if lower else -estimate.value

    return sorted(groups, key=place)


def tuned_groups(groups: Sequence[Group], tuned: Sequence[str], measure: str, lower: bool) -> list[Group]:
    """Of groups that differ in axes that are tuned alone, the best; in the order of the others."""
    best: dict[tuple[str, ...], Group] = {}
    order = [tuple(repr(value) for axis, value in group.values.items() if axis not in tuned) for group in groups]
    by_place = {id(group): place for group, place in zip(groups, order, strict=True)}
    for group in ranked(groups, measure, lower):
        best.setdefault(by_place[id(group)], group)
    return [best[place] for place in dict.fromkeys(order)]


@dataclass(frozen=True)
class Comparison:
    """How far ``second`` of an axis is from ``first``; in ``wins`` of ``pairs`` it is the better.

    ``estimate`` is of second minus first. ``p`` is two-sided, ``adjusted`` by Holm over all comparisons of the study;
    both are no number where one pair is all.
    """

    axis: str
    first: Any
    second: Any
    estimate: Estimate
    pairs: int
    wins: int
    p: float
    source: str
    improves: bool
    """Whether the difference points to the better."""
    adjusted: float = math.nan

    @property
    def verdict(self) -> str:
        """What the second is: ``better``, ``worse`` or ``cannot tell``."""
        if not self.adjusted <= LEVEL or self.estimate.value == 0:
            return "cannot tell"
        return "better" if self.improves else "worse"


def comparisons_of(results: Results, groups: Sequence[Group], measure: str) -> list[Comparison]:
    """Each two values of each axis that is not tuned, compared over the other axes and the seeds."""
    lower, tuned = results.lower_is_better(measure), results.study.tuned
    kept = tuned_groups(groups, tuned, measure, lower)
    found = []
    for axis in (axis for axis in results.axes if axis not in tuned):
        values = list({repr(group.values[axis]): group.values[axis] for group in kept}.values())
        for first, second in combinations(values, 2):
            if (one := _compared(kept, axis, first, second, tuned, measure, lower)) is not None:
                found.append(one)
    adjusted = holm([one.p for one in found], LEVEL)
    return [replace(one, adjusted=p) for one, (p, _) in zip(found, adjusted, strict=True)]


def _compared(
    groups: Sequence[Group], axis: str, first: Any, second: Any, tuned: Sequence[str], measure: str, lower: bool
) -> Comparison | None:
    """Pairs are those of combinations that have every seed on both sides, or the seeds would weigh different things."""
    sides = [
        {_elsewhere(group, axis, tuned): group for group in groups if repr(group.values[axis]) == repr(value)}
        for value in (first, second)
    ]
    pairs: list[dict[int, float]] = []
    for place, a in sides[0].items():
        b = sides[1].get(place)
        seeds = [seed for seed in a.cells if b is not None and seed in b.cells]
        over = {seed: b.cells[seed].score(measure) - a.cells[seed].score(measure) for seed in seeds} if b else {}
        over = {seed: value for seed, value in over.items() if math.isfinite(value)}
        if over:
            pairs.append(over)
    if not pairs:
        return None
    most = max(map(len, pairs))
    whole = [one for one in pairs if len(one) == most]
    seeds = [seed for seed in whole[0] if all(seed in one for one in whole)]
    if len(seeds) > 1:
        estimate, source = mean([fmean(one[seed] for one in whole) for seed in seeds]), OVER_SEEDS
    else:
        estimate, source = mean([fmean(one.values()) for one in whole]), OVER_CELLS
    differences = [value for one in whole for value in one.values()]
    wins = sum((value < 0) == lower and value != 0 for value in differences)
    p = student_interval(estimate.value, estimate.standard_error, estimate.n - 1)[2]
    improves = (estimate.value < 0) == lower
    return Comparison(axis, first, second, estimate, len(differences), wins, p, source, improves)


def _elsewhere(group: Group, axis: str, tuned: Sequence[str]) -> tuple[str, ...]:
    return tuple(repr(value) for name, value in group.values.items() if name != axis and name not in tuned)


def pooled_spread(groups: Sequence[Group], measure: str) -> tuple[float, int]:
    """The standard deviation between seeds, over all combinations, and the degrees of freedom behind it."""
    squares, freedom = 0.0, 0
    for group in groups:
        scores = [value for cell in group.cells.values() if math.isfinite(value := cell.score(measure))]
        if len(scores) > 1:
            centre = fmean(scores)
            squares += sum((score - centre) ** 2 for score in scores)
            freedom += len(scores) - 1
    return (math.sqrt(squares / freedom), freedom) if freedom else (math.nan, 0)
