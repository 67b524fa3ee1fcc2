"""Differences of several combinations and seeds as one, with its interval, and whether chance alone would do it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

from folio.evaluation.comparing.paired import student_interval
from folio.evaluation.estimates import Estimate, mean

OVER_SEEDS = "Student's t over seeds"
OVER_CELLS = "Student's t over combinations of the other axes, one seed"
T = TypeVar("T")


@dataclass(frozen=True)
class Judged:
    """A mean of paired differences with its two-sided p, and what is behind it: ``values`` are those that count."""

    estimate: Estimate
    p: float
    source: str
    values: tuple[float, ...]
    combinations: int
    seeds: tuple[int, ...]


def judged(differences: Sequence[Mapping[int, float]]) -> Judged | None:
    """Differences of each combination, by seed, averaged over combinations and judged over seeds; None without any.

    With one seed they are judged over the combinations.
    """
    finite = [{seed: value for seed, value in one.items() if math.isfinite(value)} for one in differences]
    whole = complete([one for one in finite if one])
    if not whole:
        return None
    seeds = tuple(dict.fromkeys(seed for one in whole for seed in one))
    if over_seeds := len(seeds) > 1 and all(len(one) == len(seeds) for one in whole):
        estimate = mean([fmean(one[seed] for one in whole) for seed in seeds])
    else:
        estimate = mean([fmean(one.values()) for one in whole])
    p = student_interval(estimate.value, estimate.standard_error, estimate.n - 1)[2]
    values = tuple(value for one in whole for value in one.values())
    return Judged(estimate, p, OVER_SEEDS if over_seeds else OVER_CELLS, values, len(whole), seeds)


def complete(pairs: Sequence[Mapping[int, T]]) -> list[Mapping[int, T]]:
    """The combinations and the seeds, two at least, that all of them have: those that leave most to judge by.

    That is combinations times the degrees of freedom of their seeds. Seeds would weigh different things, were each
    averaged over other combinations. Where no two seeds are shared, the combinations with the most seeds, with all
    that they have.
    """
    sets = {frozenset(one) for one in pairs}
    shared = {one & other for one in sets for other in sets if len(one & other) > 1}
    if not shared:
        most = max(map(len, pairs), default=0)
        return [one for one in pairs if len(one) == most]

    def compared(seeds: frozenset[int]) -> tuple[int, int, list[int]]:
        members = sum(seeds <= frozenset(one) for one in pairs)
        return members * (len(seeds) - 1), len(seeds), sorted(seeds)

    chosen = max(shared, key=compared)
    return [{seed: one[seed] for seed in one if seed in chosen} for one in pairs if chosen <= frozenset(one)]
