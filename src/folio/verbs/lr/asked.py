"""What is asked of a search for the learning rate of a recipe."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from folio.config import Table
from folio.training.rate_curve import FEWEST_STEPS

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RefineConfig(Table):
    """Trainings at a few rates around what the sweeps suggest: the best of them is then the answer."""

    rates: int = Field(default=0, ge=0)
    """How many rates to train at, the suggested one among them; 0 trains at none."""
    factor: float = Field(default=2.0, gt=1, allow_inf_nan=False)
    """Each rate is the one before times this."""
    steps: int | None = Field(default=None, ge=1)
    """Steps of the longest training, the schedule made as short. Empty: a tenth of the recipe's, but at least 100."""
    reduction: int = Field(default=2, ge=1)
    """Successive halving keeps one rate of so many, and trains it so many times as long; 1 trains all to the end."""

    @model_validator(mode="after")
    def _nothing_idle(self) -> Self:
        if self.rates == 1:
            raise ValueError("rates is 1, so nothing is to be chosen; give at least 2, or 0 for none")
        if not self.rates:
            for name, info in type(self).model_fields.items():
                if getattr(self, name) != info.default:
                    raise ValueError(f"{name} is for trainings around the suggestion: give refine.rates too")
        return self


class RateQuestion(Table):
    """Which rates are looked at, and how closely."""

    low: Rate = 1e-5
    """Where each sweep begins."""
    high: Rate = 1.0
    """Where it ends, unless training fails before."""
    steps: int = 100
    """Steps of each sweep, the rate rising by the same factor from one to the next."""
    seeds: int = Field(default=1, ge=1)
    """How many sweeps, each with other first weights and other batches: several show how sure the suggestion is."""
    refine: RefineConfig = RefineConfig()
    """Trainings around the suggestion, which cost more and say more."""

    @model_validator(mode="after")
    def _a_curve_can_come_of_it(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g} and high is {self.high:g}; low must be the lower one")
        if self.steps < FEWEST_STEPS:
            raise ValueError(f"steps is {self.steps}: a sweep of fewer than {FEWEST_STEPS} steps shows no curve")
        return self


def steps_of_trial(asked: RefineConfig, steps: int) -> int:
    """Of the longest training around a suggestion, for a recipe of ``steps`` steps: never more than those."""
    return min(steps, asked.steps or max(100, steps // 10))


def rates_around(suggested: float, asked: RefineConfig) -> list[float]:
    """The rates to train at, rising, of three digits; of an even number more above ``suggested`` than below."""
    below = (asked.rates - 1) // 2
    return [float(f"{suggested * asked.factor**power:.3g}") for power in range(-below, asked.rates - below)]
