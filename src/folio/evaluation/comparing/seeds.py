"""How far apart two ways of training are, each seen through the runs of several seeds, on the same items.

n items; seeds of one side may be other in number than those of the other
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from folio.evaluation.comparing.paired import Difference, Floats, spread_of, student_interval

SEEDS = "Student's t over items and seeds, Satterthwaite's degrees of freedom"


@dataclass(frozen=True)
class SeedSpread:
    """How the scores of seeds vary: ``variance`` of one seed's score, as much of it as the ``noise`` of single items
    explains, and the ``freedom`` behind the estimate (one less than the seeds)."""

    variance: float
    noise: float
    freedom: int


def seed_spread(numerators: Floats, under: Floats) -> SeedSpread:
    """Of numerators (seeds, n) over the same denominators (n,)."""
    seeds, n = numerators.shape
    scores = numerators.sum(1) / under.sum()
    left = (numerators - scores[:, None] * under) / under.mean()
    noise = float(((left - left.mean(0)) ** 2).sum()) / ((seeds - 1) * max(1, n - 1) * n)
    return SeedSpread(float(scores.var(ddof=1)), noise, seeds - 1)


def pooled(spreads: Sequence[SeedSpread]) -> SeedSpread:
    """One estimate from several, each weighed by its degrees of freedom."""
    freedom = sum(one.freedom for one in spreads)
    return SeedSpread(
        sum(one.variance * one.freedom for one in spreads) / freedom,
        sum(one.noise * one.freedom for one in spreads) / freedom,
        freedom,
    )


def paired_over_seeds(
    first: ArrayLike, second: ArrayLike, denominators: ArrayLike, borrowed: SeedSpread | None = None
) -> Difference:
    """Of two ways of training, each seen through seeds: numerators (seeds, n), denominators (n,) that both share.

    Items and seeds are crossed random effects. The variance of the difference is that of the items' differences of
    seed-means over n, and for each side that of its seeds' scores over their number, less what in it is the noise of
    single items, which the first part holds already (Searle, Casella and McCulloch 1992, section 4.3); no part is below
    zero. Degrees of freedom by Satterthwaite (1946) from the parts before that subtraction, rounded down. A side of one
    seed is taken to vary as ``borrowed`` says, or else as the other side does.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    under = np.asarray(denominators, dtype=float)
    n, over = len(under), b.mean(0) - a.mean(0)
    value = float(over.sum() / under.sum())
    sd = spread_of((over - value * under) / under.mean(), n - 1)
    known = [seed_spread(side, under) for side in (a, b) if len(side) > 1]
    lent = borrowed or pooled(known)
    spreads = [seed_spread(side, under) if len(side) > 1 else lent for side in (a, b)]
    parts = [max(0.0, one.variance - one.noise) / len(side) for one, side in zip(spreads, (a, b), strict=True)]
    loose = [(one.variance / len(side), one.freedom) for one, side in zip(spreads, (a, b), strict=True)]
    if len(known) < 2:  # parts that rest on the same seeds err together
        loose = [(sum(part for part, _ in loose), min(freedom for _, freedom in loose))]
    spread = sum(part**2 / max(1, freedom) for part, freedom in [*loose, (sd**2 / n, n - 1)])
    total = sd**2 / n + sum(parts)
    freedom = max(1, math.floor(total**2 / spread)) if spread > 0 else max(1, n - 1)
    low, high, p = student_interval(value, math.sqrt(total), freedom)
    return Difference(
        value=value,
        n=n,
        standard_error=math.sqrt(total),
        low=low,
        high=high,
        p=p,
        method=SEEDS,
        item_sd=sd,
        seeds=(len(a), len(b)),
        seed_parts=(parts[0], parts[1]),
        freedom=freedom,
    )
