"""The recipes that a search for a learning rate trains by, and the flags that give a recipe what it found."""

from __future__ import annotations

import math
from shlex import quote
from typing import Any

from folio.evaluation.config import EvaluationConfig
from folio.reports.page import flatten
from folio.verbs.recipe import Recipe, load_recipe

RATE, MUON_RATE = "train.optimizer.learning_rate", "train.optimizer.muon_learning_rate"
MOST_VALIDATION_TOKENS = 2**20
"""A trial is measured on so many at most: for the choice between rates that is plenty."""


def bare(recipe: Recipe, *, seed: int, steps: int) -> Recipe:
    """``recipe`` made as short as ``steps``, its schedule with it, and nothing measured, kept or sent on the way."""
    train = recipe.train
    warmup = math.ceil(train.schedule.warmup_steps * steps / train.steps)
    tokens = min(train.validation_tokens or MOST_VALIDATION_TOKENS, MOST_VALIDATION_TOKENS)
    short = {
        "seed": seed, "steps": steps, "schedule": train.schedule.model_copy(update={"warmup_steps": warmup}),
        "validation_tokens": tokens, "best_by": "loss", "patience": 0, "track": (), "sample_every": 0,
    }  # fmt: skip
    return recipe.model_copy(update={"train": train.model_copy(update=short), "evaluation": EvaluationConfig()})


def rates_of(recipe: Recipe, rate: float) -> dict[str, float]:
    """The learning rates of ``recipe`` once AdamW's is ``rate``: with Muon, its own moves in the configured ratio."""
    optimizer = recipe.train.optimizer
    if optimizer.kind != "muon":
        return {RATE: rate}
    muon = float(f"{rate * optimizer.muon_learning_rate / optimizer.learning_rate:.3g}")
    return {RATE: rate, MUON_RATE: muon}


def at_rate(recipe: Recipe, rate: float) -> Recipe:
    """``recipe`` with its peak learning rate, or both of them, set by ``rate``."""
    moved = {key.rpartition(".")[2]: value for key, value in rates_of(recipe, rate).items()}
    optimizer = recipe.train.optimizer.model_copy(update=moved)
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"optimizer": optimizer})})


def flags_of(recipe: Recipe, preset: str, rate: float) -> list[str]:
    """The flags over ``preset`` that train by ``recipe`` at ``rate``: what differs from the preset, and the rates."""
    before, now = (flatten(one.model_dump(mode="json")) for one in (load_recipe(preset), recipe))
    rates = rates_of(recipe, rate)
    given = {key: value for key, value in now.items() if value != before.get(key) and key not in rates}
    return [text for key, value in {**given, **rates}.items() for text in _flag(key, value)]


def train_command(recipe: Recipe, preset: str, rate: float) -> str:
    """``folio train PRESET --train.optimizer.learning-rate ...``."""
    return " ".join(map(quote, ["folio", "train", preset, *flags_of(recipe, preset, rate)]))


def _flag(key: str, value: Any) -> list[str]:
    table, dot, name = key.replace("_", "-").rpartition(".")
    if isinstance(value, bool):
        return [f"--{table}{dot}{'' if value else 'no-'}{name}"]
    written = value if isinstance(value, list) else [value]
    texts = ["none" if one is None else str(one) for one in written]
    return [f"--{table}{dot}{name}", *texts]
