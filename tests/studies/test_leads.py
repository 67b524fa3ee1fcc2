"""Two curves of which one is ahead by a known number of steps."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from statistics import fmean

import pytest

from folio.studies.findings.leads import Sides, fewer_steps, lead_of

T_OF_TWO = 4.302652729749464
"""The 97.5 % quantile of Student's t with two degrees of freedom."""


def curve(ahead: float = 0.0, lift: float = 0.0, steps: int = 100, every: int = 5) -> dict[int, float]:
    """A loss that falls from 5 towards 2, as it is so many steps ``ahead`` of others, and ``lift`` above."""
    return {step: 2 + 3 * math.exp(-(step + ahead) / 40) + lift for step in range(every, steps + 1, every)}


def sides(reference: Mapping[int, float], other: Mapping[int, float], cost: float = math.nan) -> Sides:
    return Sides(tuple(reference.items()), tuple(other.items()), cost)


def test_a_curve_that_is_ahead_by_twenty_steps_needs_twenty_fewer() -> None:
    for goal in (0.5, 1.0):
        assert fewer_steps(sides(curve(), curve(ahead=20)), goal) == pytest.approx(20, abs=0.3)
    assert fewer_steps(sides(curve(ahead=20), curve()), 0.5) == pytest.approx(-20, abs=0.3)
    assert math.isnan(fewer_steps(sides(curve(ahead=20), curve()), 1.0))  # it would take longer than it had
    assert fewer_steps(sides(curve(), curve()), 1.0) == 0


def test_a_loss_that_rises_again_is_no_easier_goal() -> None:
    risen = {**curve(), 90: 2.6, 95: 2.8, 100: 3.0}
    assert fewer_steps(sides(risen, curve(ahead=20)), 1.0) == pytest.approx(20, abs=0.3)
    assert math.isnan(fewer_steps(sides(risen, curve(lift=0.5)), 1.0))  # below 3.0 in the end, never at the lowest


def test_a_lead_that_is_lost_is_seen_from_where_to_where() -> None:
    """Ahead by ten steps, and 0.05 above: the curves cross where 3 exp(-s/40) (1 - exp(-1/4)) = 0.05."""
    chance = random.Random(5)
    pairs = [
        {seed: sides(curve(), curve(10, 0.05 + chance.gauss(0, 1e-3), 200)) for seed in (1, 2, 3)} for _ in range(2)
    ]
    pairs = [{seed: sides(curve(steps=200), dict(one.other)) for seed, one in by_seed.items()} for by_seed in pairs]
    lead = lead_of(pairs)
    assert lead is not None
    crossing = 40 * math.log(3 * (1 - math.exp(-0.25)) / 0.05)
    first, last = lead.stretches
    assert (first.sign, first.first, last.sign, last.last) == (-1, 5, 1, 200)
    assert crossing - 10 < first.last < crossing < last.first < crossing + 10
    assert lead.settled_from == last.first
    assert lead.early is not None
    assert lead.early.estimate.value == pytest.approx(
        0.05 + fmean(3 * math.exp(-step / 40) * (math.exp(-0.25) - 1) for step in range(5, 51, 5)), abs=3e-3
    )
    half, end = lead.head_starts
    assert half.steps is not None
    assert half.missed == 0
    assert (end.steps, end.missed, end.pairs) == (None, 6, 6)


def test_a_head_start_is_averaged_over_combinations_and_paid_for_in_steps() -> None:
    ahead = {1: (10, 30), 2: (12, 32), 3: (14, 34)}
    pairs = [{seed: sides(curve(), curve(ahead[seed][place]), 6.0 + seed) for seed in ahead} for place in (0, 1)]
    lead = lead_of(pairs)
    assert lead is not None
    end = lead.head_starts[1]
    assert end.steps is not None
    assert end.share is not None
    assert end.paid is not None
    assert end.paid_share is not None
    assert end.steps.value == pytest.approx(22, abs=0.3)
    assert end.steps.high - end.steps.value == pytest.approx(T_OF_TWO * 2 / math.sqrt(3), rel=0.05)
    assert end.share.value == pytest.approx(0.22, abs=0.003)
    assert end.paid.value == pytest.approx(22 - 8, abs=0.3)
    assert end.paid.n == 3
    assert end.paid_share.value == pytest.approx(0.14, abs=0.003)
    unpaid = lead_of([{1: sides(curve(), curve(10))}])
    assert unpaid is not None
    assert unpaid.head_starts[1].paid is None
    assert unpaid.stretches == ()  # one pair has no interval


def test_steps_are_those_that_all_curves_have() -> None:
    lead = lead_of([{1: sides(curve(), curve(every=10)), 2: sides(curve(steps=80), curve())}])
    assert lead is not None
    assert lead.steps == tuple(range(10, 81, 10))
    assert lead_of([{1: sides({100: 3.0}, {100: 2.0})}]) is None
