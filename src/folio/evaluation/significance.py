"""Probabilities behind a comparison, exact where they can be: McNemar, Student's t, the normal, Holm's correction.

Nothing here needs more than the standard library.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

MOST_FREEDOM = 10_000
"""Degrees of freedom beyond this count as this many: the 95 % quantile is then too wide by about one part in 8,000."""
_NORMAL = NormalDist()


def mcnemar_p(gained: int, lost: int) -> float:
    """Two-sided exact p of ``gained`` against ``lost`` discordant pairs (McNemar 1947, binomial with one half).

    Sums whole numbers, so it is exact at any size; 1 where no pair differs.
    """
    n, fewer = gained + lost, min(gained, lost)
    term = tail = 1
    for k in range(1, fewer + 1):
        term = term * (n - k + 1) // k
        tail += term
    return min(1.0, 2 * tail / (1 << n))


def normal_quantile(share: float) -> float:
    """The value below which ``share`` of a standard normal lies."""
    return _NORMAL.inv_cdf(share)


def normal_two_sided(z: float) -> float:
    """P(|Z| > |z|) of a standard normal, accurate far into the tail."""
    return math.erfc(abs(z) / math.sqrt(2))


def student_two_sided(t: float, freedom: int) -> float:
    """P(|T| > |t|) of Student's t with a whole number of degrees of freedom: the finite series.

    Abramowitz and Stegun 1964, 26.7.3 and 26.7.4. Accurate to about 1e-14; below that it gives 0.
    """
    freedom = min(freedom, MOST_FREEDOM)
    angle = math.atan(abs(t) / math.sqrt(freedom))
    square = math.cos(angle) ** 2
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(odd, freedom - 1, 2):
        total += term
        term *= square * (k + 1) / (k + 2)
    inside = math.sin(angle) * total
    return max(0.0, 1.0 - (2 / math.pi * (angle + inside) if odd else inside))


@lru_cache(maxsize=256)
def student_quantile(share: float, freedom: int) -> float:
    """The t below which ``share`` (above one half) of Student's distribution lies, by bisection."""
    outside, low, high = 2 * (1 - share), 0.0, 2.0
    while student_two_sided(high, freedom) > outside:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_two_sided(middle, freedom) > outside else (low, middle)
    return (low + high) / 2


def holm(p_values: Sequence[float], level: float = 0.05) -> list[tuple[float, float]]:
    """``(adjusted p, level of its step)`` of each of several p-values (Holm 1979).

    An adjusted p of at most ``level`` rejects; all rejections together then err with at most that probability. The
    smallest of m is held against level / m, the next against level / (m - 1), and so on. A p that is not a number
    (nothing could be tested) stays one, and does not count among the m.
    """
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    result = [(math.nan, level)] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        left = len(order) - rank
        highest = max(highest, min(1.0, left * p_values[index]))
        result[index] = (highest, level / left)
    return result
