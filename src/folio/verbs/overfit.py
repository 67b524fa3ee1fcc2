"""``folio train --overfit``: whether a recipe's model can learn one small batch by heart."""

from __future__ import annotations

from typing import Any

from folio.errors import UserError
from folio.training.plan import BatchPlan
from folio.verbs.action import Outcome, Terminal
from folio.verbs.prepare import prepare
from folio.verbs.pretraining import open_session
from folio.verbs.recipe import Recipe

OVERFIT_STEPS = 150


class _OneBatch:
    """The same few sequences at every step."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def batch(self, step: int, rows: slice = slice(None)) -> Any:
        return self.rows[rows]

    def tokens_before(self, step: int) -> int:
        return step * int(self.rows[:, 1:].size)


def overfit(recipe: Recipe, terminal: Terminal) -> Outcome:
    """Learn one batch of at most four sequences by heart: a model that cannot has a bug, or a hopeless rate."""
    schedule = recipe.train.schedule.model_copy(update={"kind": "constant", "warmup_steps": 10})
    train = recipe.train.model_copy(update={"steps": OVERFIT_STEPS, "schedule": schedule})
    session = open_session(recipe.model_copy(update={"train": train}), prepare(recipe, terminal), terminal=terminal)
    rows = session.source.batch(0, slice(0, min(4, session.plan.sequences)))
    plan = BatchPlan(session.plan.block_size, len(rows), 1)
    losses = []
    with terminal.progress("overfit", OVERFIT_STEPS, "step") as bar:
        for step in range(OVERFIT_STEPS):
            result = session.state.train_step(_OneBatch(rows), plan)
            assert result is not None  # nobody asks it to stop
            losses.append(result.loss)
            bar.update(step + 1, {"loss": f"{losses[-1]:.4f}"})
    first, last = losses[0], min(losses[-5:])
    verdict = f"{len(rows)} sequences, {OVERFIT_STEPS} steps: loss {first:.3f} -> {last:.4f} nats/token"
    if not last < 0.1 * first:
        raise UserError(f"the model did not learn one batch by heart ({verdict})", "Try another learning rate.")
    terminal.print(f"learned by heart: {verdict}")
    return Outcome({"first_nats_per_token": first, "last_nats_per_token": last, "losses": losses})
