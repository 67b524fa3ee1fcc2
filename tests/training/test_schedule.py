"""The learning rate at its corners, and between them: within bounds, without jumps."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.training.config import ScheduleConfig
from folio.training.schedule import rate_multiplier


def rates(steps: int, **schedule: object) -> list[float]:
    """The multiplier of steps 1 to ``steps``."""
    config = ScheduleConfig.model_validate(schedule)
    return [rate_multiplier(step, steps, config) for step in range(1, steps + 1)]


@pytest.mark.parametrize("kind", ["constant", "cosine", "wsd"])
def test_warm_up_rises_linearly_to_the_peak(kind: str) -> None:
    assert rates(100, kind=kind, warmup_steps=10)[:10] == pytest.approx([n / 10 for n in range(1, 11)])


def test_constant_stays_at_the_peak() -> None:
    assert rates(50, kind="constant", warmup_steps=5)[4:] == [1.0] * 46


def test_cosine_is_half_way_down_in_the_middle_and_ends_at_the_floor() -> None:
    curve = rates(110, kind="cosine", warmup_steps=10, floor=0.2)
    assert curve[9] == 1.0
    assert curve[59] == pytest.approx(0.2 + 0.8 / 2)
    assert curve[34] == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert curve[-1] == pytest.approx(0.2)


def test_wsd_is_stable_then_falls_linearly_over_its_share_of_all_steps() -> None:
    curve = rates(100, kind="wsd", warmup_steps=10, floor=0.0, decay_fraction=0.2)
    assert curve[9:80] == [1.0] * 71
    assert curve[80:] == pytest.approx([1 - n / 20 for n in range(1, 21)])


@given(
    st.sampled_from(["constant", "cosine", "wsd"]),
    st.integers(2, 400),
    st.integers(0, 450),
    st.floats(0, 1),
    st.floats(0.01, 1),
)
def test_within_0_and_1_without_jumps_and_the_floor_at_the_end(
    kind: str, steps: int, warmup: int, floor: float, decay: float
) -> None:
    curve = rates(steps, kind=kind, warmup_steps=warmup, floor=floor, decay_fraction=decay)
    assert all(0 < rate <= 1 or (rate == pytest.approx(0, abs=1e-12) and floor < 1e-9) for rate in curve)
    after = max(1, steps - warmup)
    falling = min(after, max(1, round(decay * steps))) if kind == "wsd" else after
    steepest = max(1 / min(warmup, steps) if warmup else 0.0, (1 - floor) * math.pi / 2 / falling)
    assert all(abs(b - a) <= steepest + 1e-9 for a, b in pairwise(curve))
    if kind != "constant" and warmup < steps:
        assert curve[-1] == pytest.approx(floor)
