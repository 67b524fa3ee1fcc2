"""Axes hold their data, count in round numbers, and long curves keep their extremes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.reports.scales import FAR, make_scale, nice_step, runs_of_points, short_number, thin


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 500, ["0", "100", "200", "300", "400", "500"]),
        (3.21, 3.29, ["3.20", "3.22", "3.24", "3.26", "3.28", "3.30"]),
        (-1.0, 1.5, ["-1.0", "-0.5", "0", "0.5", "1.0", "1.5"]),
        (0, 3, ["0", "1", "2", "3"]),
        (0, 12, ["0", "2", "4", "6", "8", "10", "12"]),
        (0, 0.0006, ["0", "0.0002", "0.0004", "0.0006"]),
    ],
)
def test_ticks_are_numbers_that_people_count_in(low: float, high: float, expected: list[str]) -> None:
    assert [text for _, text in make_scale([low, high], 0, 300).ticks] == expected


def test_a_log_axis_has_decades_or_finer_round_numbers() -> None:
    assert [text for _, text in make_scale([1e-5, 1], 0, 300, log=True).ticks] == [
        "1e-5", "1e-4", "0.001", "0.01", "0.1", "1",
    ]  # fmt: skip
    assert [text for _, text in make_scale([1, 40], 0, 300, log=True).ticks] == ["1", "3", "10", "30"]
    assert [text for _, text in make_scale([3.1, 3.5], 0, 300, log=True).ticks] == ["3.1", "3.2", "3.3", "3.4", "3.5"]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=20), st.booleans())
def test_any_values_at_all_lie_within_the_axis(values: list[float], log: bool) -> None:
    scale = make_scale(values, 10, 300, log=log)
    assert len(scale.ticks) < 60
    for value in values:
        if math.isfinite(value) and abs(value) <= FAR and (value >= 1 / FAR or not log):
            assert 10 - 1e-6 <= scale(value) <= 300 + 1e-6


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.0123456, "0.01235"), (1250, "1,250"), (9999.6, "10k"), (12_500, "12.5k"), (3_211_264, "3.211M"),
        (124e9, "124G"), (6e-5, "6e-5"), (-2.5, "-2.5"), (1e20, "1e20"), (math.nan, "–"), (math.inf, "∞"), (300, "300"),
    ],
)  # fmt: skip
def test_a_number_is_written_to_four_digits(value: float, text: str) -> None:
    assert short_number(value) == text


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_a_nice_step_is_at_most_two_and_a_half_times_the_rough_one(rough: float) -> None:
    assert rough * (1 - 1e-6) <= nice_step(rough) <= 2.5 * rough


def test_a_value_that_cannot_be_drawn_cuts_the_curve() -> None:
    ys = [1.0, math.nan, 2.0, 3.0, -1.0]
    assert runs_of_points(range(5), ys, log_x=False, log_y=True) == [[(0, 1.0)], [(2, 2.0), (3, 3.0)]]


def test_thinning_keeps_ends_and_every_extreme() -> None:
    points = [(float(x), math.sin(x)) for x in range(10_000)]
    points[4321] = (4321.0, 99.0)
    points[8765] = (8765.0, -99.0)
    kept = thin(points, 100)
    assert len(kept) <= 400
    assert kept == sorted(kept)
    assert {points[0], points[-1], points[4321], points[8765]} <= set(kept)
    assert thin(points[:400], 100) == points[:400]
