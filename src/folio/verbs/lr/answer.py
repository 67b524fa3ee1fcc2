"""What a search for a learning rate found, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from folio.finetuning.search.halving import rungs_of
from folio.finetuning.search.records import SearchRecord
from folio.training.rate_curve import Spread
from folio.verbs.lr.folder import RateRecord
from folio.verbs.recipe import Recipe


@dataclass(frozen=True)
class Cost:
    """What a search took: optimizer steps, batches that only the loss was measured on, tokens of both, seconds.

    ``share`` is that of a whole training by the recipe, a forward pass counted as a third of a step.
    """

    steps: int
    forward_passes: int
    tokens: int
    seconds: float
    share: float


@dataclass(frozen=True)
class FoundRate:
    """The answer: ``rate`` is AdamW's peak rate, None if nothing suggests one; ``rates`` are by the recipe's keys."""

    rate: float | None
    rates: Mapping[str, float]
    why: str
    notes: tuple[str, ...]
    spread: Spread
    record: RateRecord
    cost: Cost

    def as_dict(self) -> dict[str, Any]:
        """The content of ``lr.json`` but for the curves."""
        spread, refinement = self.spread, self.record.refinement
        seeds = {
            seed: {"rate": one.rate, "lowest_at": one.lowest_at, "why": one.why, "notes": one.notes}
            for seed, one in spread.each.items()
        }
        return {
            "rate": self.rate,
            "rates": self.rates,
            "why": self.why,
            "notes": self.notes,
            "sweeps": {"rate": spread.rate, "low": spread.low, "high": spread.high, "why": spread.why, "seeds": seeds},
            "refinement": None if refinement is None else refinement.summary(),
            "cost": asdict(self.cost),
        }


def cost_of(record: RateRecord, recipe: Recipe) -> Cost:
    """What is finished took so much."""
    steps = sum(len(sweep.losses) + 1 for sweep in record.sweeps.values())
    passes = sum(sweep.steps for sweep in record.sweeps.values())
    seconds = sum(record.seconds.values())
    if record.refinement is not None:
        steps += steps_taken(record.refinement)
        seconds += sum(one.seconds for one in record.refinement.results)
    tokens = (steps + passes) * recipe.train.batch_tokens
    return Cost(steps, passes, tokens, seconds, (steps + passes / 3) / recipe.train.steps)


def trial_steps(count: int, budget: int, reduction: int) -> int:
    """Optimizer steps of successive halving over ``count`` rates, the longest of ``budget`` steps."""
    total, alive, before = 0, count, 0
    for rung in rungs_of(count, budget, reduction):
        total += alive * (rung.steps(budget) - before)
        alive, before = rung.keep, rung.steps(budget)
    return total


def steps_taken(record: SearchRecord) -> int:
    """By all its trainings, as far as each came; those of one that was lost are counted whole."""
    furthest: dict[int, int] = {}
    for one in record.results:
        furthest[one.setting] = max(furthest.get(one.setting, 0), one.step)
    return sum(furthest.values())
