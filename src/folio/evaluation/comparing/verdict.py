"""A comparison in words: better, worse, or cannot tell, and then how much more would have to be measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from folio.evaluation.comparing.paired import Difference
from folio.evaluation.significance import normal_quantile, student_quantile

LEVEL = 0.05
POWER = 0.8
MOST = 10**12
"""More items or seeds than this are as good as never."""


@dataclass(frozen=True)
class Verdict:
    """What is known of the second model against the first.

    ``items_needed`` and ``seeds_needed`` (of each side) are what would show a difference of the size seen with 80 %
    power; None where they are not what is missing. ``detectable`` is the smallest difference that what was measured
    would have shown with that power, not a number where no spread was seen to reckon it from.
    """

    outcome: Literal["better", "worse", "cannot tell"]
    words: str
    detectable: float
    items_needed: int | None = None
    seeds_needed: int | None = None


def judge(
    difference: Difference, p: float, level: float, *, better: Literal["higher", "lower"], points: bool
) -> Verdict:
    """The verdict on a ``difference`` whose p, corrected for the other comparisons, is ``p``.

    ``level`` is what its own p is held against after that correction: what is needed is reckoned with it. With
    ``points`` the difference is one of shares and written in percentage points.
    """
    seen = f"difference {written(difference.value, points)} {interval_in_words(difference, points)}"
    detectable = smallest_shown(difference, level)
    if p <= LEVEL and difference.value:
        outcome: Literal["better", "worse"] = "better" if (difference.value > 0) == (better == "higher") else "worse"
        return Verdict(outcome, f"{outcome} with n = {_counts(difference)}: {seen}", detectable)
    start = f"cannot tell with n = {_counts(difference)}: "
    if math.isnan(difference.p) or math.isnan(difference.item_sd):
        return Verdict("cannot tell", f"{start}one item alone has no spread", detectable)
    if not difference.value:
        same = "the two score the same on every item" if not difference.item_sd else f"{seen}; the two score the same"
        return Verdict("cannot tell", start + same, detectable)
    items, seeds = needed(difference, level)
    parts = [f"n = {_rounded(items)}"] if items else []
    parts += [f"{_rounded(seeds)} seeds of each"] if seeds else []
    advice = f"you would need about {' and '.join(parts)}" if parts else "no number of items or seeds in reach would do"
    goal = f"to see a difference of this size ({POWER:.0%} power, {_percent(level)} level)".replace("%", " %")
    if difference.p <= LEVEL:
        seen += f", p = {difference.p:.2g} alone but {p:.2g} corrected"
    more = "; seeds differ more than items, so more items alone would not do" if seeds and not items else ""
    return Verdict("cannot tell", f"{start}{seen}; {advice} {goal}{more}", detectable, items, seeds)


def in_short(outcome: str, items_needed: int | None = None, seeds_needed: int | None = None) -> str:
    """A verdict for the cell of a table: the outcome, and what is missing if one cannot tell."""
    parts = [f"n about {_rounded(items_needed)}"] if items_needed else []
    parts += [f"about {_rounded(seeds_needed)} seeds of each"] if seeds_needed else []
    return f"{outcome}, would need {' and '.join(parts)}" if parts else outcome


def needed(difference: Difference, level: float) -> tuple[int | None, int | None]:
    """``(items, seeds of each side)`` that show a difference of this size: one of the two where one suffices.

    Whichever makes the larger part of the variance is raised first; where it alone cannot do, both are, each to half
    the variance that is allowed. None where it is not to be raised.

    Of accuracies the spread is that with half an item more on each side, and there are no fewer items than McNemar's
    exact test can reject with: a few answers that all differ one way have no spread of their own.
    """
    floor = difference.n + 1
    if difference.discordant is not None:
        floor = max(floor, _fewest_for_mcnemar(difference, level))
        difference = replace(difference, item_sd=_smoothed_sd(difference))
    n, k = difference.n, max(difference.seeds)
    seed_part, item_part = sum(difference.seed_parts), difference.item_sd**2 / difference.n
    allowed = (difference.value / (normal_quantile(1 - level / 2) + normal_quantile(POWER))) ** 2
    if seed_part <= item_part and allowed > seed_part:
        return _first(lambda items: _shown(difference, level, items, None), floor), None
    if seed_part > item_part and allowed > item_part:
        return None, _first(lambda seeds: _shown(difference, level, n, seeds), k + 1)
    items, seeds = 2 * difference.item_sd**2 / allowed, 2 * _seed_variance(difference) / allowed
    return max(floor, math.ceil(items)), max(k + 1, math.ceil(seeds))


def smallest_shown(difference: Difference, level: float = LEVEL) -> float:
    """The smallest difference that this many items and seeds show with 80 % power; not a number without a spread."""
    if not difference.standard_error > 0:
        return math.nan
    return _quantiles(level, _freedom(difference, difference.n, None)) * difference.standard_error


def written(value: float, points: bool) -> str:
    """A difference with its sign: in percentage points, or to three significant digits."""
    text = f"{100 * value:+.1f}" if points else f"{value:+.3g}"
    return f"{text} points" if points else text


def interval_in_words(difference: Difference, points: bool) -> str:
    if math.isnan(difference.low):
        return "(no interval)"
    low, high = (written(end, points).removesuffix(" points") for end in (difference.low, difference.high))
    return f"(95 % {low} to {high})"


def _counts(difference: Difference) -> str:
    a, b = difference.seeds
    seeds = "" if a == b == 1 else f", {a} and {b} seeds"
    return f"{difference.n:,}{seeds}"


def _shown(difference: Difference, level: float, n: int, seeds: int | None) -> bool:
    """Whether n items (and so many seeds of each side) would show the difference with the power that is asked."""
    parts = sum(difference.seed_parts) if seeds is None else _seed_variance(difference) / seeds
    error = math.sqrt(difference.item_sd**2 / n + parts)
    return abs(difference.value) >= _quantiles(level, _freedom(difference, n, seeds)) * error


def _smoothed_sd(difference: Difference) -> float:
    """The spread of one item's difference of accuracies, with half an item more gained and half an item more lost."""
    assert difference.discordant is not None
    gained, lost = difference.discordant
    n = difference.n + 1
    return math.sqrt(max(0.0, (gained + lost + 1) / n - ((gained - lost) / n) ** 2))


def _fewest_for_mcnemar(difference: Difference, level: float) -> int:
    """Items, at the share that differ now, of which enough differ for the exact test to reject if all go one way."""
    assert difference.discordant is not None
    fewest = math.ceil(1 + math.log2(1 / level))  # 2 * 0.5**k <= level
    return math.ceil(fewest * difference.n / sum(difference.discordant))


def _freedom(difference: Difference, n: int, seeds: int | None) -> int:
    """Degrees of freedom of the test: of the items, or at least as many as the seeds have."""
    if difference.seeds == (1, 1) and not sum(difference.seed_parts):
        return max(1, n - 1)
    if seeds is None:
        return difference.freedom or 1
    before = max(1, sum(difference.seeds) - 2)
    return max(1, (difference.freedom or 1) * (2 * seeds - 2) // before)


def _quantiles(level: float, freedom: int) -> float:
    if freedom > 500:
        return normal_quantile(1 - level / 2) + normal_quantile(POWER)
    return student_quantile(1 - level / 2, freedom) + student_quantile(POWER, freedom)


def _seed_variance(difference: Difference) -> float:
    """Of one seed of each side together."""
    return sum(part * count for part, count in zip(difference.seed_parts, difference.seeds, strict=True))


def _first(enough: Callable[[int], bool], start: int) -> int | None:
    """The smallest whole number from ``start`` on that is enough; what is enough stays so."""
    high = start
    while not enough(high):
        high *= 2
        if high > MOST:
            return None
    low = max(start, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


def _rounded(count: int) -> str:
    """Two significant digits, upwards: no more are known."""
    size = 10 ** max(0, len(str(count)) - 2)
    return f"{math.ceil(count / size) * size:,}"


def _percent(level: float) -> str:
    return f"{100 * level:.2g}%"
