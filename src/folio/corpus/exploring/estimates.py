"""Means and ratios of a sample with their standard errors, however the documents were drawn.

A mean length is a ratio, tokens over documents, and so is bytes a token. With documents drawn in clusters (the rows of
one row group), its variance comes from how much the clusters' totals differ: (1 - f) / (k (k - 1) x^2) * sum of
(y_i - R x_i)^2 over k clusters of mean total x (linearization; Cochran 1977, equation 6.13). Documents that were drawn
each on its own are clusters of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, its standard error (0 of the whole, None where one cluster tells nothing), and how many clusters."""

    value: float
    standard_error: float | None
    clusters: int

    def record(self) -> dict[str, Any]:
        return {"value": self.value, "standard_error": self.standard_error, "clusters": self.clusters}


class RatioEstimates:
    """Totals of some quantities of each document, and their sums of squares and products over clusters.

    Memory does not depend on the number of documents or clusters. The documents of a cluster follow one another.
    """

    def __init__(self, names: Sequence[str], sampled_share: float | None = 0.0) -> None:
        """``sampled_share`` of the documents are looked at, each drawn on its own; 0 where that is small, unknown, or
        drawn in clusters; None where all are."""
        self.names = tuple(names)
        self._share = sampled_share
        self._cluster: int | None = None
        self._sum = np.zeros(len(names))
        self._of_cluster = np.zeros(len(names))
        self._products = np.zeros((len(names), len(names)))
        self._clusters = 0

    def add(self, values: Sequence[float], cluster: int) -> None:
        """One document's quantities, in the order of the names."""
        if cluster != self._cluster:
            self._close()
            self._cluster = cluster
        self._of_cluster += values

    def ratio(self, over: str, under: str) -> Estimate | None:
        """Total of ``over`` by total of ``under``; None if the latter is 0."""
        self._close()
        top, bottom = self.names.index(over), self.names.index(under)
        if not self._sum[bottom]:
            return None
        value, count = float(self._sum[top] / self._sum[bottom]), self._clusters
        if self._share is None:
            return Estimate(value, 0.0, count)
        if count < 2:
            return Estimate(value, None, count)
        products = self._products
        squares = products[top, top] - 2 * value * products[top, bottom] + value**2 * products[bottom, bottom]
        mean = self._sum[bottom] / count
        variance = max(0.0, float(squares)) * (1 - self._share) / (count * (count - 1) * mean**2)
        return Estimate(value, math.sqrt(variance), count)

    def _close(self) -> None:
        if self._cluster is None:
            return
        self._sum += self._of_cluster
        self._products += np.outer(self._of_cluster, self._of_cluster)
        self._clusters += 1
        self._of_cluster = np.zeros(len(self.names))
        self._cluster = None


def share_interval(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share that is estimated from ``hits`` in ``of`` (Wilson 1927)."""
    if not of:
        return 0.0, 1.0
    share, weight = hits / of, z * z / of
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / of + weight / (4 * of)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)
