"""From numbers to places on a page: axis ranges, ticks that people count in, and thinning of long curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Point = tuple[float, float]
FAR = 1e300
"""Values beyond this, or below its inverse on a log axis, lie off the page: floats run out near them."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A map from values ``low..high`` to pixels ``start..end``, linear or logarithmic, with its labelled ticks."""

    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: tuple[tuple[float, str], ...]

    def __call__(self, value: float) -> float:
        """The pixel at which ``value`` lies."""
        if self.log:
            share = (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def make_scale(
    values: Iterable[float], start: float, end: float, *, log: bool = False, round_out: bool = True, spacing: float = 60
) -> Scale:
    """A scale that holds every finite value (positive ones if ``log``), with a tick about every ``spacing`` pixels.

    ``round_out`` widens a linear range to whole ticks; values that are all whole get whole
    ticks. No usable value at all gives 0..1, or 1..10 if ``log``.
    """
    usable = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    low, high = (min(usable), max(usable)) if usable else ((1.0, 10.0) if log else (0.0, 1.0))
    nearest = 1 / FAR if log else -FAR
    low, high = (min(max(value, nearest), FAR) for value in (low, high))
    whole = bool(usable) and all(value == int(value) for value in usable)
    if high - low <= max(1e-9 * abs(high), 0 if log else 1 / FAR):
        margin = max(abs(low) * 0.1, 1.0 if whole or abs(low) < 1e-200 else 0.0)
        low, high = (low / 1.5, high * 1.5) if log else (low - margin if low else 0.0, high + margin)
    count = max(2, round(abs(end - start) / spacing))
    if log:
        return Scale(low, high, start, end, True, label_ticks(log_ticks(low, high, count)))
    step = max(nice_step((high - low) / count), 1.0 if whole else 0.0)
    step = 2.0 if whole and step == 2.5 else step
    if round_out:
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Scale(low, high, start, end, False, label_ticks(linear_ticks(low, high, step), step))


def nice_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5, 5, 10 times a power of ten that is at least ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next((factor * power for factor in (1, 2, 2.5, 5) if factor * power >= rough * (1 - 1e-9)), 10 * power)


def linear_ticks(low: float, high: float, step: float) -> list[float]:
    """The multiples of ``step`` within ``low..high``."""
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round values between two positive ones: decades, else 1-3 or 1-2-5, else even steps."""
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        ticks = [
            f * 10.0**e for e in exponents for f in factors if low * (1 - 1e-9) <= f * 10.0**e <= high * (1 + 1e-9)
        ]
        if len(ticks) >= max(2, 0.6 * count):
            return ticks[:: math.ceil(len(ticks) / (1.5 * count))]
    return linear_ticks(low, high, nice_step((high - low) / count))


def label_ticks(ticks: Sequence[float], step: float = 0.0) -> tuple[tuple[float, str], ...]:
    """Each tick with its text; ticks ``step`` apart share their number of decimals."""
    largest = max((abs(tick) for tick in ticks), default=0.0)
    if step >= 1e-4 and largest < 1e5:
        decimals = next((d for d in range(6) if math.isclose(step * 10**d, round(step * 10**d), rel_tol=1e-6)), 6)
        return tuple((tick, f"{tick:,.{decimals}f}" if abs(tick) > step / 2 else "0") for tick in ticks)
    return tuple((tick, short_number(tick)) for tick in ticks)


def short_number(value: float) -> str:
    """A number as a person writes it, to four significant digits: 0.0123, 1,250, 12.5k, 3.2M, 6e-5."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    size = abs(value)
    if size == 0:
        return "0"
    if size < 9.9995e-4 or size >= 1e15:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= 0.99995 * limit:
            divisor = 1e3 if suffix == "k" else limit
            return f"{_significant(value / divisor)}{suffix}"
    return _significant(value)


def _significant(value: float) -> str:
    """Four significant digits without exponent, thousands separated, no trailing zeros."""
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def runs_of_points(xs: Sequence[float], ys: Sequence[float], *, log_x: bool, log_y: bool) -> list[list[Point]]:
    """The curve cut where a value cannot be drawn (not finite, or not positive on a log axis)."""
    pieces: list[list[Point]] = [[]]
    for x, y in zip(xs, ys, strict=True):
        x, y = float(x), float(y)
        if math.isfinite(x) and math.isfinite(y) and (x > 0 or not log_x) and (y > 0 or not log_y):
            pieces[-1].append((x, y))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def thin(points: Sequence[Point], buckets: int) -> list[Point]:
    """At most ``4 * buckets`` of the points: the first, lowest, highest and last of each of ``buckets`` equal runs."""
    if len(points) <= 4 * buckets:
        return list(points)
    kept: list[Point] = []
    for bucket in range(buckets):
        begin, end = bucket * len(points) // buckets, (bucket + 1) * len(points) // buckets
        by_height = sorted(range(begin, end), key=lambda index: points[index][1])
        kept += [points[index] for index in sorted({begin, by_height[0], by_height[-1], end - 1})]
    return kept
