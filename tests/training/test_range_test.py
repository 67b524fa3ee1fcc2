"""The range test finds a rate that trains well, says why, and says so when it cannot."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from tiny_training import GPT2, SHAPE, Counting, make_state, run_steps

from folio.errors import ConfigError
from folio.training.range_test import range_test
from folio.training.rate_curve import Suggestion, Sweep, rate_text, suggest, suggest_over


def swept(low: float = 1e-6, high: float = 3.0, steps: int = 60, **options: object) -> Sweep:
    state, source, plan = make_state(GPT2, **options)
    sweep = range_test(state, source, plan, low=low, high=high, steps=steps)
    assert sweep is not None
    return sweep


def made_up(low: float, high: float, bottom_at: float, noise: float = 0.0, steps: int = 100) -> Suggestion:
    """A curve that falls by two nats in a smooth step, steepest a tenth below ``bottom_at``, from where it rises."""
    rates = np.geomspace(low, high, steps)
    fallen = 2 / (1 + np.exp(-4 * np.log10(rates / (bottom_at / 10))))
    risen = np.maximum(0, np.log10(rates / bottom_at)) ** 2
    losses = 4 - fallen + risen + noise * np.random.default_rng(0).standard_normal(steps)
    return suggest(Sweep(tuple(rates.tolist()), tuple(losses.tolist()), (4.0,) * steps))


@pytest.fixture(scope="module")
def found() -> Suggestion:
    return suggest(swept())


def trained_at(rate: float, steps: int = 60) -> float:
    """Nats per token at the end of a short training at one constant rate."""
    options = {"steps": steps, "optimizer": {"learning_rate": rate}, "schedule": {"kind": "constant"}}
    state, source, plan = make_state(GPT2, **options)
    return float(np.mean(run_steps(state, source, plan, steps)[-10:]))


def test_the_suggested_rate_trains_better_than_a_tenth_of_it_and_ten_times_it(found: Suggestion) -> None:
    assert found.rate is not None
    at_it, below, above, far_above = (trained_at(found.rate * factor) for factor in (1, 0.1, 10, 100))
    assert at_it < below - 0.5
    assert at_it < above - 0.5
    assert far_above > trained_at(1e-9)  # worse than the model untouched
    assert found.rate < found.lowest_at
    assert rate_text(found.rate) in found.why
    assert found.notes == ()


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("bottom_at", [1e-3, 3e-2])
def test_half_way_from_the_steepest_place_of_a_known_curve_to_its_lowest_is_suggested(
    bottom_at: float, noise: float
) -> None:
    said = made_up(1e-6, 1.0, bottom_at, noise)
    assert bottom_at / 2 < said.lowest_at < bottom_at * 3
    assert said.rate == pytest.approx(math.sqrt(bottom_at / 10 * said.lowest_at), rel=0.05 if not noise else 0.3)
    assert said.notes == ()


def test_a_sweep_that_ends_too_low_or_begins_too_high_says_so() -> None:
    assert "ended too low" in made_up(1e-6, 1e-3, 1e-2).notes[0]
    assert "where the sweep began" in made_up(2e-3, 1.0, 1e-2).notes[0]
    real = suggest(swept(high=1e-2))
    assert real.rate is not None
    assert "ended too low" in real.notes[0]


def test_what_comes_after_the_lowest_loss_is_not_suggested() -> None:
    rates = np.geomspace(1e-6, 1, 100)
    losses = np.concatenate([np.linspace(4, 3, 60), np.linspace(3, 5, 20), np.linspace(4, 3.2, 20)])
    said = suggest(Sweep(tuple(rates.tolist()), tuple(losses.tolist()), (4.0,) * 100))
    assert said.rate is not None
    assert said.rate < said.lowest_at == pytest.approx(rates[58], rel=0.5)


def test_no_step_of_a_sweep_is_left_out_as_a_spike() -> None:
    state, source, plan = make_state(GPT2, spikes={"z_score": 0.5, "window": 8})
    assert range_test(state, source, plan, low=1e-4, high=3.0, steps=40) is not None
    assert state.spikes.left_out == 0


def test_a_loss_that_never_falls_suggests_nothing() -> None:
    real = suggest(swept(low=0.3, high=1e3))
    assert real.rate is None
    assert "never fell" in real.why
    noise = np.random.default_rng(1).standard_normal(100).tolist()
    assert suggest(Sweep(tuple(np.geomspace(1e-6, 1, 100).tolist()), tuple(noise), (0.0,) * 100)).rate is None


def test_a_loss_that_is_no_number_at_once_suggests_nothing() -> None:
    said = suggest(Sweep((), (), (4.0,) * 60, "the loss became nan after an update at 1"))
    assert said.rate is None
    assert "too high" in said.why


def test_rates_rise_by_one_factor_and_the_sweep_ends_when_training_fails() -> None:
    sweep = swept()
    factors = [after / before for before, after in pairwise(sweep.rates)]
    assert factors == pytest.approx([(3.0 / 1e-6) ** (1 / 59)] * len(factors))
    assert sweep.rates[0] == 1e-6
    assert 30 < len(sweep.rates) < sweep.steps == 60
    assert "four times the best" in sweep.ended
    assert sweep.losses[-1] - min(sweep.losses) > 1
    assert swept(high=1e-2).ended == ""
    assert swept(high=1e-2).rates[-1] == pytest.approx(1e-2)


def test_a_loss_stands_beside_the_update_that_it_felt_first() -> None:
    sweep = swept(low=1.0, high=2.0, steps=20)
    assert sweep.losses[0] > sweep.untouched[0] + 1  # a single update at such a rate does harm
    gentle = swept(low=1e-9, high=2e-9, steps=20)
    assert gentle.losses == pytest.approx(gentle.untouched, abs=1e-4)


class EasyAndHard(Counting):
    """Every other batch is one id over and over, which counting did not teach."""

    def batch(self, step: int, rows: slice = slice(None)) -> np.ndarray:
        counted = super().batch(step, rows)
        return counted * 0 + step % 37 if step % 2 else counted


def test_batches_of_unlike_difficulty_hardly_show_in_the_curve() -> None:
    taught, source, plan = make_state(GPT2, steps=40, optimizer={"learning_rate": 1e-2})
    run_steps(taught, source, plan, 40)
    state, _, _ = make_state(GPT2)
    state.model.load_state_dict(taught.model.state_dict())
    sweep = range_test(state, EasyAndHard(), plan, low=1e-9, high=1e-6, steps=40)
    assert sweep is not None
    raw, compared = np.std(np.diff(sweep.losses)), np.std(np.diff(sweep.compared()))
    assert compared < raw / 20
    assert np.mean(sweep.compared()) == pytest.approx(np.mean(sweep.losses), abs=0.02)


def test_the_same_sweep_gives_the_same_bits() -> None:
    assert swept(steps=25) == swept(steps=25)


def test_muon_moves_along_in_its_ratio() -> None:
    state, source, plan = make_state(SHAPE, optimizer={"kind": "muon", "learning_rate": 1e-3})
    assert range_test(state, source, plan, low=1e-5, high=1e-4, steps=20) is not None
    rates = {group["name"]: group["lr"] for one in state.optimizers.all for group in one.param_groups}
    assert rates == pytest.approx({"matrices": 0.02 / 10, "embeddings": 1e-4, "vectors": 1e-4})


def with_bottom_at(bottom_at: float) -> Sweep:
    rates = np.geomspace(1e-6, 1, 100)
    losses = 4 - 2 / (1 + np.exp(-4 * np.log10(rates / (bottom_at / 10))))
    losses = losses + np.maximum(0, np.log10(rates / bottom_at)) ** 2
    return Sweep(tuple(rates.tolist()), tuple(losses.tolist()), (4.0,) * 100)


def test_of_several_seeds_the_median_is_suggested_with_its_spread() -> None:
    sweeps = {seed: with_bottom_at(bottom) for seed, bottom in ((1, 1e-3), (2, 3e-2), (3, 4e-3))}
    alone = {seed: suggest(sweep).rate for seed, sweep in sweeps.items()}
    said = suggest_over(sweeps)
    assert said.rate == alone[3]
    assert (said.low, said.high) == (alone[1], alone[2])
    assert f"3 seeds, which suggest {rate_text(said.low or 0)} to {rate_text(said.high or 0)}" in said.why
    assert {seed: one.rate for seed, one in said.each.items()} == alone
    two = suggest_over({seed: sweeps[seed] for seed in (1, 2)})
    assert two.rate == pytest.approx(math.sqrt((two.low or 0) * (two.high or 0)), rel=1e-2)
    one = suggest_over({1: sweeps[1]})
    assert (one.rate, one.why, one.notes) == (alone[1], one.each[1].why, one.each[1].notes)


def test_a_seed_that_suggests_nothing_is_named_and_left_out() -> None:
    noise = np.random.default_rng(1).standard_normal(100).tolist()
    silent = Sweep(tuple(np.geomspace(1e-6, 1, 100).tolist()), tuple(noise), (0.0,) * 100)
    said = suggest_over({1: silent, 2: with_bottom_at(1e-2)})
    assert said.rate == said.each[2].rate
    assert said.notes[0].startswith("seed 1 suggests nothing: ")
    nothing = suggest_over({1: silent, 2: silent})
    assert (nothing.rate, nothing.low, nothing.high) == (None, None, None)
    assert "never fell" in nothing.why


def test_who_watches_hears_of_every_batch() -> None:
    state, source, plan = make_state(GPT2)
    measured, felt = list[int](), list[int]()
    range_test(state, source, plan, low=1e-5, high=1e-3, steps=20, on_untouched=measured.append,
               on_step=lambda step, loss: felt.append(step))  # fmt: skip
    assert measured == felt == list(range(1, 21))


@pytest.mark.parametrize("polls", [1, 10, 30])
def test_a_request_to_stop_ends_the_sweep_without_a_curve(polls: int) -> None:
    state, source, plan = make_state(GPT2)
    asked: Iterator[bool] = iter([False] * polls + [True] * 1000)
    answer = range_test(state, source, plan, low=1e-5, high=1e-2, steps=20, asked_to_stop=lambda: next(asked))
    assert answer is None
    assert sum(1 for _ in asked) == 999


def test_what_cannot_be_swept_is_refused() -> None:
    state, source, plan = make_state(GPT2)
    with pytest.raises(ConfigError, match="does not rise"):
        range_test(state, source, plan, low=1e-2, high=1e-2, steps=50)
    with pytest.raises(ConfigError, match="shows no curve"):
        range_test(state, source, plan, low=1e-4, high=1e-2, steps=5)


@pytest.mark.parametrize(
    ("rate", "text"), [(1e-3, "1e-3"), (3.162e-4, "3.16e-4"), (0.02, "0.02"), (5e-5, "5e-5"), (1.0, "1")]
)
def test_rates_are_written_as_people_do(rate: float, text: str) -> None:
    assert rate_text(rate) == text
    assert math.isclose(float(text), rate, rel_tol=2e-3)
