"""The search itself: sweeps, then trainings around what they suggest; what is finished is never done again."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

from folio.artifacts import environment, new_folder, write_file
from folio.checksums import sealed_json
from folio.errors import Interrupted
from folio.training.range_test import range_test
from folio.training.rate_curve import Spread, Sweep, suggest_over
from folio.training.stopping import StopRequest
from folio.verbs.action import Terminal
from folio.verbs.lr.answer import FoundRate, cost_of
from folio.verbs.lr.asked import RateQuestion
from folio.verbs.lr.folder import (
    CONFIG,
    VERB,
    RateRecord,
    append_sweep,
    ask_again,
    read_record,
    recipe_tables,
    refuse_another,
    refuse_other_data,
)
from folio.verbs.lr.plan import RATE, bare, rates_of
from folio.verbs.lr.refining import refine
from folio.verbs.prepare import Prepared, prepare
from folio.verbs.pretraining import Pretraining, open_session
from folio.verbs.progress import Progress
from folio.verbs.recipe import Recipe

OF_MUON = "with Muon a sweep stays low far above the best rate, and suggests too high a one: refine it"
"""Its steps have a fixed size, so training fails late: a sweep suggested two to four times the best of a list."""


def suggested_rate(
    recipe: Recipe,
    asked: RateQuestion,
    folder: Path,
    terminal: Terminal,
    *,
    preset: str = "",
    prepared: Prepared | None = None,
) -> FoundRate:
    """The learning rate to train ``recipe`` at, by its own data, batch and optimizer. In one process.

    ``folder`` is made, or gone on with if it was begun with the same question. :class:`Interrupted` if it is asked to
    stop: no finished sweep or training is lost. :class:`~folio.errors.ConfigError` where the folder holds another
    question, :class:`~folio.errors.Diverged` where none of the trainings around a suggestion came to its end.
    """
    begun = (folder / CONFIG).is_file()
    if begun:
        refuse_another(folder, recipe, asked)
        ask_again(folder, asked)
    record = read_record(folder) if begun else RateRecord()
    finding = _Finding(recipe, asked, folder, terminal, preset, prepared, record, begun)
    with StopRequest.listening() as stop:
        return finding.run(stop)


@dataclass
class _Finding:
    """One sitting; ``record`` grows with what is finished."""

    recipe: Recipe
    asked: RateQuestion
    folder: Path
    terminal: Terminal
    preset: str
    prepared: Prepared | None
    record: RateRecord
    begun: bool
    micro_batch: int | None = None
    """What "auto" found, once for all."""

    @property
    def seeds(self) -> range:
        first = self.recipe.train.seed
        return range(first, first + self.asked.seeds)

    def run(self, stop: StopRequest) -> FoundRate:
        try:
            self._sweeps(stop)
            spread = suggest_over({seed: self.record.sweeps[seed] for seed in self.seeds})
            if self.asked.refine.rates and spread.rate is not None:
                refine(
                    self.recipe, self.asked.refine, spread.rate, self.folder, self.record, self._open, stop,
                    self.terminal,
                )  # fmt: skip
        except Interrupted:
            raise Interrupted(self._stopped(stop)) from None
        return self._answer(spread)

    def _sweeps(self, stop: StopRequest) -> None:
        missing, steps = [seed for seed in self.seeds if seed not in self.record.sweeps], self.asked.steps
        if not missing:
            return
        session = self._open(bare(self.recipe, seed=missing[0], steps=steps))
        self._begin(session)  # whatever cannot be has been refused before anything is written
        with self.terminal.progress("sweep", 2 * steps * len(missing), "batch") as bar:
            for index, seed in enumerate(missing):
                began = time.perf_counter()
                if index:
                    del session
                    gc.collect()
                    session = self._open(bare(self.recipe, seed=seed, steps=steps))
                sweep = self._swept(session, stop, bar, 2 * steps * index, f"{seed}")
                seconds = time.perf_counter() - began
                append_sweep(self.folder, seed, sweep, seconds)
                self.record.sweeps[seed], self.record.seconds[seed] = sweep, seconds

    def _swept(self, session: Pretraining, stop: StopRequest, bar: Progress, done: int, seed: str) -> Sweep:
        asked = self.asked

        def on_step(step: int, loss: float) -> None:
            bar.update(done + asked.steps + step, {"seed": seed, "loss": f"{loss:.3f}"})

        sweep = range_test(
            session.state,
            session.source,
            session.plan,
            low=asked.low,
            high=asked.high,
            steps=asked.steps,
            asked_to_stop=lambda: stop.made,
            on_step=on_step,
            on_untouched=lambda batches: bar.update(done + batches, {"seed": seed}),
        )
        if sweep is None:
            raise Interrupted("stopped amid a sweep")
        return sweep

    def _open(self, recipe: Recipe) -> Pretraining:
        if self.prepared is None:
            self.prepared = prepare(self.recipe, self.terminal)
        if self.micro_batch is not None:
            train = recipe.train.model_copy(update={"micro_batch": self.micro_batch})
            recipe = recipe.model_copy(update={"train": train})
        session = open_session(recipe, self.prepared)
        self.micro_batch = session.plan.micro_batch
        if self.begun:
            refuse_other_data(self.folder, {**session.identity(), "tokenizer": session.tokenizer.fingerprint})
        return session

    def _begin(self, session: Pretraining) -> None:
        if self.begun:
            return
        description = {
            "verb": VERB,
            "preset": self.preset,
            "recipe": recipe_tables(self.recipe),
            "asked": self.asked.model_dump(mode="json"),
            "resolved": {key: value for key, value in session.resolved().items() if key != "epochs"},
            **session.identity(),
            "tokenizer": session.tokenizer.fingerprint,
            "environment": {**environment(), "device": session.runtime.describe()},
        }
        with new_folder(self.folder) as folder:
            write_file(folder / CONFIG, sealed_json(description))
        self.begun = True

    def _answer(self, spread: Spread) -> FoundRate:
        rate, why, notes = spread.rate, spread.why, spread.notes
        refinement = self.record.refinement if self.asked.refine.rates else None
        if refinement is not None and refinement.choice is not None:
            choice = refinement.choice
            rate, why, notes = float(choice.values[RATE]), choice.reason, choice.notes
        elif rate is not None and self.recipe.train.optimizer.kind == "muon":
            notes = (*notes, OF_MUON)
        record = replace(
            self.record,
            sweeps={seed: self.record.sweeps[seed] for seed in self.seeds},
            seconds={seed: self.record.seconds[seed] for seed in self.seeds},
            refinement=refinement,
        )
        rates = {} if rate is None else rates_of(self.recipe, rate)
        return FoundRate(rate, rates, why, notes, spread, record, cost_of(record, self.recipe))

    def _stopped(self, stop: StopRequest) -> str:
        by = stop.signal.name if stop.signal else "request"
        kept = f"{sum(seed in self.record.sweeps for seed in self.seeds)} of {self.asked.seeds} sweeps"
        if self.record.refinement is not None:
            kept += f" and {len(self.record.refinement.results)} trainings"
        go_on = f"Go on with: folio {VERB} --resume {quote(str(self.folder))}" if self.begun else ""
        return f"the search was stopped by {by}; {kept} are finished and kept\n       {go_on}".rstrip()
