"""What is searched for before a fine-tuning run, and how."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from folio.config import Table
from folio.training.rate_curve import FEWEST_STEPS

Kind = Literal["none", "list", "range", "random"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=1)]

LIMITS: dict[Kind, tuple[float, float]] = {"random": (1e-5, 1e-2), "range": (1e-6, 1.0)}
"""The lowest and the highest rate where none are given: where good ones are looked for, and where training fails."""
COUNTS: dict[Kind, int] = {"random": 8, "range": 100}
SIDES = ("rank", "batch_tokens", "epochs")
"""Lists of other things than rates."""
BUDGET = ("budget_epochs", "budget_steps")
READ_BY: dict[Kind, tuple[str, ...]] = {
    "none": (),
    "list": ("learning_rates", *SIDES, *BUDGET, "reduction"),
    "random": ("low", "high", "count", *SIDES, *BUDGET, "reduction", "seed"),
    "range": ("low", "high", "count"),
}
"""The keys that each kind goes by; another that is filled in is refused."""


class SearchConfig(Table):
    """What is tried before the run: its settings are the winner's."""

    kind: Kind = "none"
    """list: each of learning_rates is trained, and the best is used. random: so are rates drawn between low and high.
    range: one short training whose rate rises from low to high suggests one. none: nothing is searched."""
    learning_rates: tuple[Positive, ...] = ()
    """list: rates to try; left empty, the run's own with each of the other lists."""
    low: Positive | None = None
    """random, range: the lowest rate. Empty: 1e-5 for random, 1e-6 for range."""
    high: Positive | None = None
    """random, range: the highest rate. Empty: 1e-2 for random, 1 for range."""
    count: Whole | None = None
    """random: settings to draw (empty: 8). range: steps of the sweep (empty: 100)."""
    rank: tuple[Whole, ...] = ()
    """list, random: ranks of the adapters to try too. list tries each with each, random draws one for each setting."""
    batch_tokens: tuple[Whole, ...] = ()
    """list, random: sizes of a step to try too."""
    epochs: tuple[Positive, ...] = ()
    """list, random: lengths of the run to try too; each is then tried in full."""
    budget_epochs: Positive | None = None
    """list, random: the longest trial in epochs, at most the run. Empty: one, unless budget_steps or epochs say."""
    budget_steps: Whole | None = None
    """list, random: the longest trial in steps; the shorter holds where both are given."""
    reduction: Whole = 2
    """list, random: successive halving keeps one setting of so many at each rung, and trains it so many times as long;
    1 trains all of them to the end."""
    seed: int = Field(default=0, ge=0)
    """random: another seed draws other settings."""

    @property
    def lowest(self) -> float:
        return self.low if self.low is not None else LIMITS[self.kind][0]

    @property
    def highest(self) -> float:
        return self.high if self.high is not None else LIMITS[self.kind][1]

    @property
    def number(self) -> int:
        """Settings that are drawn, or steps of the sweep."""
        return self.count if self.count is not None else COUNTS[self.kind]

    @property
    def varied(self) -> dict[str, Sequence[Any]]:
        """What is tried of each list that is not empty, by its name."""
        return {name: getattr(self, name) for name in ("learning_rates", *SIDES) if getattr(self, name)}

    @model_validator(mode="after")
    def _nothing_idle(self) -> Self:
        read = READ_BY[self.kind]
        for name, info in type(self).model_fields.items():
            if name != "kind" and name not in read and getattr(self, name) != info.default:
                kinds = " or ".join(kind for kind, keys in READ_BY.items() if name in keys)
                raise ValueError(
                    f"{name} belongs to kind {kinds}, and kind is {self.kind}: leave it out, or choose one"
                )
        return self

    @model_validator(mode="after")
    def _something_to_choose_from(self) -> Self:
        for name, values in self.varied.items():
            if repeated := [value for value in values if values.count(value) > 1]:
                raise ValueError(f"{name} holds {repeated[0]:g} twice")
        if self.kind == "list" and prod(map(len, self.varied.values())) < 2:
            held = "only one setting" if self.varied else "no learning_rates"
            raise ValueError(f"list holds {held}, so nothing is to be chosen; give at least two learning_rates")
        if self.kind == "random" and self.number < 2:
            raise ValueError(f"count is {self.number}, so nothing is to be chosen; draw at least 2")
        if self.kind == "range" and self.number < FEWEST_STEPS:
            raise ValueError(f"count is {self.number}: a sweep of fewer than {FEWEST_STEPS} steps shows no curve")
        if self.kind in LIMITS and self.lowest >= self.highest:
            raise ValueError(f"low is {self.lowest:g} and high is {self.highest:g}; low must be the lower one")
        return self

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.epochs and (idle := [name for name in BUDGET if getattr(self, name) is not None]):
            raise ValueError(f"epochs are searched, and each is tried in full; leave {' and '.join(idle)} out")
        return self
