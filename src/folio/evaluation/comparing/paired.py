"""How far apart two models are on the same items, and whether chance alone would put them there.

Every difference is that of the second minus the first, item by item, so the luck of the items cancels.

n items, R resamples
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from folio.evaluation.estimates import Z95
from folio.evaluation.significance import (
    mcnemar_p,
    normal_quantile,
    normal_two_sided,
    student_quantile,
    student_two_sided,
)

Floats = NDArray[np.float64]
RESAMPLES = 10_000
FEWEST_TO_RESAMPLE = 8
"""With fewer items the tails that are needed lie beyond the resamples: Student's t is used instead."""
CHUNK_DRAWS = 1_000_000

MCNEMAR = "McNemar's exact test, Tango's score interval"
BOOTSTRAP = f"paired bootstrap over items, {RESAMPLES:,} resamples, expanded percentiles"
STUDENT = "Student's t of the paired ratio, too few items to resample"


@dataclass(frozen=True)
class Difference:
    """``value`` is the second model minus the first over ``n`` paired items, with its 95 % interval and two-sided p.

    ``item_sd`` is the spread of one item's difference, so that ``item_sd**2 / n`` is the part of the variance that
    more items would lessen. ``seed_parts`` are the parts of it that more seeds of the first and of the second model
    would lessen, already divided by their ``seeds``. What cannot be known is not a number: the error of one item alone.
    """

    value: float
    n: int
    standard_error: float
    low: float
    high: float
    p: float
    method: str
    item_sd: float
    p_is_bound: bool = False
    """No resample came out on the other side: p is at most this."""
    discordant: tuple[int, int] | None = None
    """Items that only the second, and only the first, got right (of accuracies)."""
    seeds: tuple[int, int] = (1, 1)
    seed_parts: tuple[float, float] = (0.0, 0.0)
    freedom: int | None = None


def paired_accuracies(first: ArrayLike, second: ArrayLike) -> Difference:
    """Of right (1) and wrong (0) answers to the same items: McNemar's exact p, and the score interval of Tango."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    n, gained, lost = len(a), int(((b == 1) & (a == 0)).sum()), int(((a == 1) & (b == 0)).sum())
    value = (gained - lost) / n
    sd = math.sqrt(max(0.0, (gained + lost) / n - value**2) * n / (n - 1)) if n > 1 else math.nan
    low, high = tango_interval(gained, lost, n)
    p = mcnemar_p(gained, lost)
    return Difference(value, n, sd / math.sqrt(n), low, high, p, MCNEMAR, sd, discordant=(gained, lost))


def tango_interval(gained: int, lost: int, n: int, z: float = Z95) -> tuple[float, float]:
    """The differences of two paired proportions whose score statistic lies within ``z`` (Tango 1998, eqs. 5 to 8).

    ``gained`` and ``lost`` of ``n`` pairs differ in favour of the second and of the first. Never leaves [-1, 1], and is
    no point where no pair differs.
    """

    def statistic(difference: float) -> float:
        slack = 2 * n - gained + lost
        b = slack * difference - gained - lost
        c = -lost * difference * (1 - difference)
        share_lost = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        variance = n * (2 * share_lost + difference * (1 - difference))
        over = gained - lost - n * difference
        return over / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, over) if over else 0.0

    def crossing(target: float) -> float:
        low, high = -1.0, 1.0
        for _ in range(60):  # the statistic falls as the difference rises
            middle = (low + high) / 2
            low, high = (middle, high) if statistic(middle) > target else (low, middle)
        return (low + high) / 2

    return crossing(z), crossing(-z)


def paired_ratios(first: ArrayLike, second: ArrayLike, denominators: ArrayLike, *, seed: int = 0) -> Difference:
    """Of two sums over the same denominators, such as nats over tokens, by a paired bootstrap over items.

    The interval takes percentiles of 10,000 resamples, pushed out so that they cover at small n as Student's t does
    (Hesterberg 2015, section 4.1.3, expanded percentiles); p is the level at which the interval would touch zero.
    """
    over = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    under = np.asarray(denominators, dtype=float)
    n = len(over)
    value = float(over.sum() / under.sum())
    sd = spread_of((over - value * under) / under.mean(), n - 1)
    error = sd / math.sqrt(n)
    if n < FEWEST_TO_RESAMPLE:
        low, high, p = student_interval(value, error, n - 1)
        return Difference(value, n, error, low, high, p, STUDENT, sd, freedom=n - 1)
    resampled = np.sort(resampled_ratios(over, under, seed))
    shrunk = math.sqrt((n - 1) / n)
    z = student_quantile(0.975, n - 1) / shrunk
    tail = normal_two_sided(z) / 2
    low, high = (float(end) for end in np.quantile(resampled, (tail, 1 - tail)))
    crossed = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
    raw = min(1.0, 2 * (crossed + 1) / (RESAMPLES + 1))
    p = student_two_sided(normal_quantile(1 - raw / 2) * shrunk, n - 1)
    return Difference(value, n, error, low, high, p, BOOTSTRAP, sd, p_is_bound=crossed == 0)


def resampled_ratios(over: Floats, under: Floats, seed: int) -> Floats:
    """The ratio of sums in each of R draws of n items with replacement; the same seed gives the same draws."""
    generator = np.random.default_rng(seed)
    n, parts = len(over), []
    rows = max(1, CHUNK_DRAWS // n)
    for start in range(0, RESAMPLES, rows):
        drawn = generator.integers(0, n, size=(min(rows, RESAMPLES - start), n), dtype=np.int32)
        parts.append(over[drawn].sum(1) / under[drawn].sum(1))
    return np.concatenate(parts)


def student_interval(value: float, error: float, freedom: int) -> tuple[float, float, float]:
    """The 95 % interval and the two-sided p of ``value`` against zero, by Student's t."""
    if freedom < 1 or math.isnan(error):
        return math.nan, math.nan, math.nan
    half = student_quantile(0.975, freedom) * error
    t = abs(value) / error if error else (math.inf if value else 0.0)
    return value - half, value + half, student_two_sided(t, freedom)


def spread_of(residuals: Floats, freedom: int) -> float:
    """The standard deviation of residuals that have so many degrees of freedom; not a number if none."""
    return math.sqrt(float((residuals**2).sum()) / freedom) if freedom > 0 else math.nan
