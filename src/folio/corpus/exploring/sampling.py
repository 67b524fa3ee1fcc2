"""Which rows of a source are looked at: a pure function of how its rows are divided, the number wanted, and a seed.

Every row has the same chance. Where single rows are cheap to reach, each is drawn on its own. Of a source of many large
parts a few dozen places are drawn evenly along its rows, and as many rows from each: drawing every row on its own
would read nearly all of it (two stages, the first systematic with probability proportional to size; Cochran 1977,
chapters 9A.3 and 11).
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

PLACES = 64
"""Places that a sample is drawn from where it is drawn in two stages."""
CHEAP_ROWS = 4
"""Rows a part, on average, up to which reading a whole part for one row is no waste."""


class Pick(NamedTuple):
    """Rows to take of one part, in order."""

    part: int
    rows: tuple[int, ...]
    place: int
    """The number of the place that they were drawn at."""


class Draw(NamedTuple):
    """A sample: its picks, in the order of the parts."""

    picks: tuple[Pick, ...]
    places: int
    """How many there are; 0 where each row was drawn on its own."""


def draw_rows(rows: Sequence[int], wanted: int, seed: int) -> Draw:
    """``wanted`` rows, or all if there are fewer, of parts that have ``rows`` rows each."""
    total = sum(rows)
    chance = random.Random(f"folio sample {seed} {wanted} {total}")
    wanted = min(wanted, total)
    if len(rows) <= PLACES or total <= CHEAP_ROWS * len(rows) or 4 * wanted > total:
        return Draw(tuple(_picks(rows, sorted(chance.sample(range(total), wanted)), place=None)), 0)
    return _in_two_stages(rows, wanted, total, chance)


def _in_two_stages(rows: Sequence[int], wanted: int, total: int, chance: random.Random) -> Draw:
    """``PLACES`` points evenly spaced along the rows from a random one on; around each, a few neighbouring parts."""
    places = min(PLACES, wanted)
    shares = [wanted // places + (place < wanted % places) for place in range(places)]
    chance.shuffle(shares)
    bunches = _bunches(rows, least=2 * max(shares))
    ends = list(accumulate(sum(rows[first:stop]) for first, stop in bunches))
    offset = chance.random()
    drawn: dict[int, list[int]] = {}
    for place, share in enumerate(shares):
        point = min(total - 1, int((place + offset) * total / places))
        drawn.setdefault(bisect_right(ends, point), []).append(share)
    picks: list[Pick] = []
    for place, (bunch, parts_of_sample) in enumerate(drawn.items()):
        first, stop = bunches[bunch]
        within = rows[first:stop]
        chosen = sorted(chance.sample(range(sum(within)), min(sum(within), sum(parts_of_sample))))
        picks += (Pick(first + pick.part, pick.rows, place) for pick in _picks(within, chosen, place))
    return Draw(tuple(picks), len(drawn))


def _bunches(rows: Sequence[int], least: int) -> list[tuple[int, int]]:
    """Neighbouring parts, first and behind the last, that have at least ``least`` rows together."""
    bunches: list[tuple[int, int]] = []
    first = held = 0
    for number, count in enumerate(rows):
        held += count
        if held >= least:
            bunches.append((first, number + 1))
            first, held = number + 1, 0
    if held and bunches:
        bunches[-1] = (bunches[-1][0], len(rows))
    return bunches or [(0, len(rows))]


def _picks(rows: Sequence[int], chosen: Sequence[int], place: int | None) -> Iterator[Pick]:
    """``chosen`` row numbers, in order over all parts, as picks of each part; without a ``place`` a part is its own."""
    ends = list(accumulate(rows))
    by_part: dict[int, list[int]] = {}
    for number in chosen:
        part = bisect_right(ends, number)
        by_part.setdefault(part, []).append(number - (ends[part] - rows[part]))
    for part, numbers in by_part.items():
        yield Pick(part, tuple(numbers), part if place is None else place)
