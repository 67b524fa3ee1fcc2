"""What is made of a finished run: samples, what was forgotten, and whether it learned its examples by heart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from folio.finetuning.overfitting import LossKey, epoch_losses, epoch_table, turn_of
from folio.finetuning.samples import SamplePrompt
from folio.ranks import ALONE
from folio.runtime import make_runtime
from folio.training.checkpoint import best_checkpoint, list_checkpoints
from folio.training.loop import FINISHED
from folio.training.metrics import METRICS, MetricsLog, read_metrics
from folio.training.objective import loss_key
from folio.verbs.action import Terminal
from folio.verbs.evaluate import EvaluateOptions
from folio.verbs.finetune.forgetting import forgetting
from folio.verbs.finetune.recipe import ADAPTERS, FinetuneRecipe
from folio.verbs.finetune.samples import write_samples
from folio.verbs.finetune.tasks import Passes, Task
from folio.verbs.library import Model, load
from folio.verbs.losses import loss_in_words

HARDLY_ENDS = math.log(20)
"""Nats of end-of-text, where one is due, beyond which a text will hardly end by itself."""
HARDLY = "Texts will hardly end by themselves: train longer, or at a higher rate."
FROZEN = (
    " If the base has hardly met an end-of-text, its row in the frozen head is that of any unseen token: use --method "
    "full, or another base."
)
MADE = "looked at"
"""The event after which nothing is left to be made of a run."""


@dataclass(frozen=True)
class Afterwards:
    """What is wanted of the finished run of ``recipe``; ``base_task`` is how forgetting is measured, if it is."""

    base: str
    recipe: FinetuneRecipe
    task: Task
    prompts: Sequence[SamplePrompt]
    base_task: EvaluateOptions | None

    def make(self, run: Path, terminal: Terminal, unit: str) -> dict[str, Any]:
        """Print the losses by epoch, and write samples and the forgetting table of the best checkpoint."""
        best = best_checkpoint(list_checkpoints(run))
        assert best is not None
        found: dict[str, Any] = {}
        lines = read_metrics(run)
        losses = epoch_losses(lines, cast(LossKey, loss_key(unit)))
        if losses:
            terminal.table(*epoch_table(losses))
        if (turn := turn_of(losses)) is not None:
            terminal.print(f"overfitting: {turn.words}")
            found["overfitting"] = {"outcome": turn.outcome, "words": turn.words}
        if ends := [line["end_nats"] for line in lines if line.get("end_nats") is not None]:
            terminal.print(f"ending     end-of-text costs {ends[-1]:.2f} nats, of the base {ends[0]:.2f}")
            if ends[-1] > HARDLY_ENDS:
                terminal.print(f"           {HARDLY}{FROZEN if self.recipe.method in ADAPTERS else ''}", style="yellow")
        if self.task.sets.test or self.prompts:
            model = load(run, device=self.recipe.train.device)
            found |= self._of_model(model, run, best.step, terminal)
        if self.base_task is not None:
            found["forgetting"] = forgetting(self.base, run, self.base_task, terminal)
        with MetricsLog(run / METRICS) as log:
            log.log(kind="event", step=lines[-1]["step"], event=MADE, **{k: found[k] for k in ("test",) if k in found})
        return found

    def _of_model(self, model: Model, run: Path, step: int, terminal: Terminal) -> dict[str, Any]:
        """What the model of ``step``, the best, is asked for: its loss on the test side, and samples."""
        found: dict[str, Any] = {"test": self._test(model, terminal)} if self.task.sets.test else {}
        if self.prompts:
            found["samples"] = write_samples(
                model.gpt,
                model.tokenizer,
                self.prompts,
                self.recipe.samples,
                self.recipe.generation,
                run,
                terminal,
                step=step,
                seed=self.recipe.train.seed,
            )
        return found

    def _test(self, model: Model, terminal: Terminal) -> dict[str, Any]:
        """The loss on the test side: of the best checkpoint, once, and nothing was chosen by it."""
        device = self.recipe.train.device
        runtime = make_runtime(device, self.recipe.train.precision)
        passes = Passes(runtime.autocast(), ALONE, lambda: None)
        measured = self.task.test(model.gpt, passes, lambda: load(self.base, device=device).gpt)
        kept = {key: value for key, value in measured.items() if key != "each"}
        terminal.print(f"test       {loss_in_words(kept)}")
        return kept

    @staticmethod
    def is_made(run: Path) -> bool:
        """Whether it came to its end since the run did; a kill leaves a finished run without it."""
        events = [line["event"] for line in read_metrics(run) if line.get("event") in (FINISHED, MADE)]
        return events[-1:] == [MADE]
