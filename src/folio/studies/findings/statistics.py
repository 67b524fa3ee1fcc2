"""Means over seeds, and how far apart the values of an axis are, all else being equal.

Seeds are what chance draws; the other axes of a grid are fixed. So a mean is over the seeds of one combination, and a
difference is taken pair by pair (same other axes, same seed), averaged over the combinations, and judged over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean
from typing import Any

from folio.evaluation.estimates import Estimate, mean
from folio.evaluation.significance import holm
from folio.studies.findings.judged import Judged, judged
from folio.studies.findings.results import CellResult, Results

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
    combinations: int = 0
    """Of the other axes, behind the estimate."""

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
            pairs = told_apart(paired(kept, axis, first, second, tuned).values())
            if (one := compared(pairs, axis, first, second, lambda cell: cell.score(measure), lower)) is not None:
                found.append(one)
    return corrected(found)


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same with p corrected by Holm, all of them together."""
    adjusted = holm([one.p for one in comparisons], LEVEL)
    return [replace(one, adjusted=p) for one, (p, _) in zip(comparisons, adjusted, strict=True)]


CellPair = tuple[CellResult, CellResult]


def paired(
    groups: Sequence[Group], axis: str, first: Any, second: Any, beside: Sequence[str]
) -> dict[tuple[str, ...], dict[int, CellPair]]:
    """The cell of the first and of the second by seed, for each two combinations that are equal in the other axes.

    Axes ``beside`` may differ, and so may those that one of the two does not have, being of another grid: it then
    stands beside each of the other's. A pair of which no seed is finished on both sides is there, and empty.
    """
    ignored = (axis, *beside)
    sides = [[one for one in groups if repr(one.values[axis]) == repr(value)] for value in (first, second)]
    return {
        (*_elsewhere(a, ignored), *_elsewhere(b, ignored)): {
            seed: (a.cells[seed], b.cells[seed]) for seed in a.cells if seed in b.cells
        }
        for a in sides[0]
        for b in sides[1]
        if agree(a.values, b.values, ignored)
    }


def agree(one: Mapping[str, Any], other: Mapping[str, Any], ignored: Sequence[str]) -> bool:
    """Whether two places are equal in all axes that both have, but for those ``ignored``."""
    both = (axis for axis in one if axis not in ignored and other.get(axis) is not None and one[axis] is not None)
    return all(repr(one[axis]) == repr(other[axis]) for axis in both)


def told_apart(pairs: Iterable[Mapping[int, CellPair]]) -> list[Mapping[int, CellPair]]:
    """Without what would count a run twice where equal cells were merged.

    That is the same pair in another place, and a run beside itself.
    """
    found: dict[tuple[tuple[str, str], ...], Mapping[int, CellPair]] = {}
    for one in pairs:
        apart = {seed: (a, b) for seed, (a, b) in one.items() if a.name != b.name}
        if apart:
            found.setdefault(tuple((a.name, b.name) for a, b in apart.values()), apart)
    return list(found.values())


def compared(
    pairs: Sequence[Mapping[int, CellPair]],
    axis: str,
    first: Any,
    second: Any,
    score: Callable[[CellResult], float],
    lower: bool,
) -> Comparison | None:
    """Second minus first in ``score``, uncorrected; None where no pair has it on both sides."""
    found = judged([{seed: score(b) - score(a) for seed, (a, b) in one.items()} for one in pairs])
    return None if found is None else comparison(axis, first, second, found, lower)


def comparison(axis: str, first: Any, second: Any, found: Judged, lower: bool) -> Comparison:
    """Differences that were judged as a comparison, uncorrected."""
    wins = sum((value < 0) == lower and value != 0 for value in found.values)
    return Comparison(
        axis,
        first,
        second,
        found.estimate,
        len(found.values),
        wins,
        found.p,
        found.source,
        (found.estimate.value < 0) == lower,
        combinations=found.combinations,
    )


def _elsewhere(group: Group, ignored: Sequence[str]) -> tuple[str, ...]:
    return tuple(repr(value) for name, value in group.values.items() if name not in ignored)


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
