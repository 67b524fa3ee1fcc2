"""Short trainings around a suggested rate: the recipe's own, made short, and the lowest validation loss decides."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

from folio.errors import ConfigError
from folio.finetuning.search.choice import choose, loss_text
from folio.finetuning.search.halving import Loss, Result, halve
from folio.finetuning.search.records import SearchLog, SearchRecord
from folio.finetuning.search.settings import RATE, Setting
from folio.finetuning.search.trained import TrainedTrial
from folio.training.loop import Poll, loss_in
from folio.training.rate_curve import rate_text
from folio.training.stopping import StopRequest
from folio.verbs.action import Terminal
from folio.verbs.lr.answer import steps_taken, trial_steps
from folio.verbs.lr.asked import RefineConfig, rates_around, steps_of_trial
from folio.verbs.lr.folder import UNIT, RateRecord
from folio.verbs.lr.plan import at_rate, bare
from folio.verbs.pretraining import Pretraining
from folio.verbs.recipe import Recipe


def refine(
    recipe: Recipe,
    asked: RefineConfig,
    suggested: float,
    folder: Path,
    record: RateRecord,
    open_session: Callable[[Recipe], Pretraining],
    stop: StopRequest,
    terminal: Terminal,
) -> None:
    """Train at the rates around ``suggested``, choose, and leave it in ``folder`` and ``record``.

    Every training begins with the same weights and reads the same batches, those of the recipe's own seed.
    """
    search, begun = _search(recipe, asked, suggested, record.refinement, folder)
    record.refinement = search
    if search.choice is not None:
        return
    left = max(0, trial_steps(len(search.settings), search.budgets[0], asked.reduction) - steps_taken(search))
    with SearchLog(folder, UNIT) as log, terminal.progress("refine", left, "step") as bar:
        if not begun:
            log.begin(search)
        taken = 0

        def open_trial(setting: Setting) -> TrainedTrial:
            gc.collect()  # the trial before, whole with its optimizer
            short = bare(recipe, seed=recipe.train.seed, steps=search.budgets[0])
            session = open_session(at_rate(short, setting.rate))

            def validate(step: int, poll: Poll) -> Loss:
                line = session.validation(step, poll)
                return Loss(loss_in(line), line.get("standard_error_nats"))

            def on_step(step: int, loss: float) -> None:
                nonlocal taken
                taken += 1
                bar.update(taken, {"trial": setting.words, "at": f"{step:,}", "loss": f"{loss:.3f}"})

            return TrainedTrial(session.state, session.source, session.plan, validate, lambda: stop.made, on_step)

        def tell(result: Result) -> None:
            log.result(result)
            search.results.append(result)
            came = f"lost: {result.lost}" if result.lost else f"{loss_text(result.loss)} nats/{UNIT}"
            terminal.print(f"{search.settings[result.setting - 1].words}, {result.step:,} steps: {came}")

        halve(search.settings, search.budgets, asked.reduction, open_trial, list(search.results), tell)
        search.choice = choose(search.settings, search.results, UNIT)
        log.choice(search)


def _search(
    recipe: Recipe, asked: RefineConfig, suggested: float, begun: SearchRecord | None, folder: Path
) -> tuple[SearchRecord, bool]:
    """The trainings to make, or those that were ``begun``; and whether they were."""
    rates, steps = rates_around(suggested, asked), steps_of_trial(asked, recipe.train.steps)
    facts = {"rates": rates, "steps": steps, "reduction": asked.reduction}
    if begun is None:
        settings = [Setting(number, {RATE: rate}) for number, rate in enumerate(rates, 1)]
        return SearchRecord("list", UNIT, facts, settings, [steps] * len(settings)), False
    if dict(begun.asked) != facts:
        before = ", ".join(map(rate_text, begun.asked["rates"]))
        raise ConfigError(
            f"'{folder}' was refined at {before} over {begun.asked['steps']:,} steps, and now other trainings are "
            "asked for",
            "Ask for the same, or start anew in another folder.",
        )
    return begun, True
