"""A number measured on a sample, with how far it may be off: standard error and 95 % interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from folio.evaluation.significance import normal_quantile, student_quantile

Z95 = normal_quantile(0.975)
"""Standard errors to either side of a normal 95 % interval."""


@dataclass(frozen=True)
class Estimate:
    """``value`` from ``n`` independent units, its standard error, and the ends of its 95 % interval.

    What one unit alone cannot tell is not a number: the error and the interval of n = 1.
    """

    value: float
    n: int
    standard_error: float
    low: float
    high: float


def proportion(hits: ArrayLike) -> Estimate:
    """The share of true values, with the interval of Wilson (1927), which stays within [0, 1] for any n."""
    values = np.asarray(hits, dtype=float)
    n, p = len(values), float(values.mean())
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    low, high = max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))  # rounding must not part them from p
    return Estimate(p, n, mean(values).standard_error, low, high)


def mean(values: ArrayLike) -> Estimate:
    """The mean of independent values, with Student's interval."""
    array = np.asarray(values, dtype=float)
    return ratio(array, np.ones(len(array)))


def ratio(numerators: ArrayLike, denominators: ArrayLike) -> Estimate:
    """Sum over sum, as nats over tokens, taking the units (documents, blocks) as independent (Cochran 1977, 6.4).

    The interval is Student's with n - 1 degrees of freedom, so that few units do not look more certain than they are.
    """
    over, under = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)
    n, total = len(over), float(under.sum())
    value = float(over.sum()) / total
    residual = over - value * under
    error = math.sqrt(float((residual**2).sum()) * n / (n - 1)) / total if n > 1 else math.nan
    half = student_quantile(0.975, n - 1) * error if n > 1 else math.nan
    return Estimate(value, n, error, value - half, value + half)


def exponential(estimate: Estimate) -> Estimate:
    """exp of it, as perplexity of nats: the error by the delta method, the interval's ends each taken to exp."""
    value, low, high = (math.exp(min(x, 700.0)) for x in (estimate.value, estimate.low, estimate.high))
    return Estimate(value, estimate.n, value * estimate.standard_error, low, high)
