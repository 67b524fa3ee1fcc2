"""The settings that a search tries: from a list, each with each, or drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from folio.finetuning.search.config import SIDES, SearchConfig
from folio.shards.permutation import derived_numbers
from folio.training.rate_curve import rate_text

RATE = "learning_rate"
KEYS = {
    RATE: "train.optimizer.learning_rate",
    "rank": "lora.rank",
    "batch_tokens": "train.batch_tokens",
    "epochs": "train.epochs",
}
"""Where in a recipe each thing that is searched stands."""
WORDS = {RATE: "learning rate", "batch_tokens": "batch tokens"}


@dataclass(frozen=True)
class Setting:
    """One thing to try: its ``number``, from 1, and the ``values`` that it has of what is searched."""

    number: int
    values: Mapping[str, float | int]

    @property
    def rate(self) -> float:
        """The learning rate; 0 where rates are not searched."""
        return float(self.values.get(RATE, 0.0))

    @property
    def words(self) -> str:
        """``learning rate 1e-3, rank 8``."""
        return ", ".join(f"{words_of(name)} {value_text(name, value)}" for name, value in self.values.items())

    def keys(self) -> dict[str, float | int]:
        """Its values by the dotted keys of a recipe."""
        return {KEYS[name]: value for name, value in self.values.items()}

    def as_dict(self) -> dict[str, Any]:
        return {"setting": self.number, **self.values}


def settings_of(config: SearchConfig) -> list[Setting]:
    """What kind "list" or "random" tries, in the order in which it is tried.

    "random" draws each rate log-uniformly (Bergstra and Bengio 2012 draw so where a scale is not known), rounded to
    three digits, and one value of each other list; setting *n* is the same for any count.
    """
    if config.kind == "random":
        return [Setting(number, _drawn(config, number)) for number in range(1, config.number + 1)]
    names = [RATE if name == "learning_rates" else name for name in config.varied]
    combined = product(*config.varied.values())
    return [Setting(number, dict(zip(names, values, strict=True))) for number, values in enumerate(combined, 1)]


def _drawn(config: SearchConfig, number: int) -> dict[str, float | int]:
    of_rate, *of_sides = derived_numbers(1 + len(SIDES), "folio search", config.seed, number)
    exact = config.lowest * (config.highest / config.lowest) ** (of_rate / 2**64)
    values: dict[str, float | int] = {RATE: min(max(float(f"{exact:.3g}"), config.lowest), config.highest)}
    for name, drawn in zip(SIDES, of_sides, strict=True):
        if choices := getattr(config, name):
            values[name] = choices[drawn % len(choices)]
    return values


def words_of(name: str) -> str:
    """What a thing that is searched is called."""
    return WORDS.get(name, name)


def value_text(name: str, value: float | int) -> str:
    if name == RATE:
        return rate_text(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
