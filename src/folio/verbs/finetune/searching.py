"""The search before a fine-tuning run: its trials are trained, and the run goes by the winner."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from shlex import quote

from folio.artifacts import write_file
from folio.errors import Interrupted
from folio.finetuning.search.choice import choose, choose_by_sweep, loss_text
from folio.finetuning.search.halving import Loss, Result, halve, rungs_of
from folio.finetuning.search.records import SearchLog, SearchRecord, read_search
from folio.finetuning.search.settings import Setting
from folio.finetuning.search.trained import TrainedTrial
from folio.ranks import ALONE, Ranks
from folio.reports.charts import standalone
from folio.reports.search import FIGURE, search_figure, search_table
from folio.training.loop import Poll, loss_in
from folio.training.objective import loss_key
from folio.training.range_test import range_test
from folio.training.stopping import StopRequest
from folio.verbs.action import Terminal
from folio.verbs.engine import open_runtime
from folio.verbs.finetune.opening import FinetuneJob, Finetuning, open_finetuning, settled
from folio.verbs.finetune.recipe import FinetuneRecipe
from folio.verbs.finetune.search_plan import applied, planned, refuse_another, run_recipe, trial_recipe
from folio.verbs.progress import Progress


def search(job: FinetuneJob, asked: FinetuneRecipe, run: Path, terminal: Terminal, ranks: Ranks = ALONE) -> FinetuneJob:
    """The job that the search in ``asked`` decides on, begun or gone on with in ``run``, a folder that is there.

    ``job`` is of the recipe ``asked``, settled. What is finished is in the run's ``search.jsonl`` and not done again; a
    finished search only says what it found. :class:`Interrupted` if it is asked to stop: no finished training is lost.
    :class:`UserError` where nothing can be chosen, or the folder holds another search.
    """
    record = ranks.share(ranks.attempt(lambda: _opened(job, asked, run, ranks.world_size) if ranks.first else None))
    assert record is not None
    if record.choice is None:
        _Searching(job, asked, run, terminal, ranks, record).decide()
        if record.results:
            header, rows = search_table(record)
            terminal.table(header, rows)
    assert record.choice is not None
    terminal.print(f"search     {record.choice.reason}")
    for note in record.choice.notes:
        terminal.print(f"           {note}", style="yellow")
    recipe = settled(applied(asked, record.choice.values), job.task, ranks.world_size)
    return replace(job, recipe=recipe, found={"kind": record.kind, **record.choice.as_dict()})


def _opened(job: FinetuneJob, asked: FinetuneRecipe, run: Path, world_size: int) -> SearchRecord:
    """The search that ``run`` holds, or a new one, written down."""
    record = read_search(run)
    if record is not None:
        refuse_another(job, asked, record)
        return record
    record = planned(job, asked, world_size)
    with SearchLog(run, record.unit) as log:
        log.begin(record)
    return record


class _Searching:
    """One sitting at a search; ``record`` grows with what is found."""

    def __init__(
        self,
        job: FinetuneJob,
        asked: FinetuneRecipe,
        run: Path,
        terminal: Terminal,
        ranks: Ranks,
        record: SearchRecord,
    ) -> None:
        self.job, self.asked, self.run, self.terminal = job, asked, run, terminal
        self.ranks, self.record = ranks, record
        self.runtime = open_runtime(job.recipe.train, ranks)
        self.taken = 0
        self.log: SearchLog | None = None

    def decide(self) -> None:
        """Train what has not been trained yet, choose, and write it down."""
        record, first = self.record, self.ranks.first
        with ExitStack() as stack:
            self.log = stack.enter_context(SearchLog(self.run, record.unit)) if first else None
            stop = stack.enter_context(StopRequest.listening())
            bar = stack.enter_context(self.terminal.progress("search", self._steps_left(), "step"))
            try:
                if record.kind == "range":
                    self._sweep(stop, bar)
                else:
                    self._halve(stop, bar)
            except Interrupted:
                raise Interrupted(self._stopped(stop)) from None
            if record.sweep is not None:
                record.choice = choose_by_sweep(record.sweep)
            else:
                record.choice = choose(record.settings, record.results, record.unit)
            self._write(lambda log: write_file(self.run / FIGURE, standalone(search_figure(record))))
            self._write(lambda log: log.choice(record))

    def _halve(self, stop: StopRequest, bar: Progress) -> None:
        def tell(result: Result) -> None:
            self._write(lambda log: log.result(result))
            record.results.append(result)
            came = f"lost: {result.lost}" if result.lost else f"{loss_text(result.loss)} nats/{record.unit}"
            words = record.settings[result.setting - 1].words
            self.terminal.print(f"{words}, {result.step:,} steps: {came}")

        record = self.record
        halve(
            record.settings,
            record.budgets,
            self.asked.search.reduction,
            lambda setting: self._trial(setting, stop, bar),
            list(record.results),
            tell,
        )

    def _trial(self, setting: Setting, stop: StopRequest, bar: Progress) -> TrainedTrial:
        gc.collect()  # the trial before, whole with its optimizer
        recipe = run_recipe(self.job, self.asked, setting, self.ranks.world_size)
        session = self._open(trial_recipe(recipe, self.record.budgets[setting.number - 1]))

        def validate(step: int, poll: Poll) -> Loss:
            line = session.validation(step, poll)
            return Loss(loss_in(line), line.get("standard_error_nats"), line[f"train_{loss_key(self.record.unit)}"])

        def on_step(step: int, loss: float) -> None:
            self.taken += 1
            bar.update(self.taken, {"trial": setting.words, "at": f"{step:,}", "loss": f"{loss:.3f}"})

        return TrainedTrial(session.state, session.source, session.plan, validate, lambda: stop.made, on_step)

    def _sweep(self, stop: StopRequest, bar: Progress) -> None:
        began, config = time.perf_counter(), self.asked.search
        if self.record.sweep is None:
            session = self._open(trial_recipe(self.job.recipe, self.job.recipe.train.steps))
            sweep = range_test(
                session.state,
                session.source,
                session.plan,
                low=config.lowest,
                high=config.highest,
                steps=config.number,
                asked_to_stop=lambda: stop.made,
                on_step=lambda step, loss: bar.update(step, {"loss": f"{loss:.3f}"}),
            )
            if sweep is None:
                raise Interrupted("stopped amid the sweep")
            self._write(lambda log: log.sweep(sweep, time.perf_counter() - began))
            self.record.sweep = sweep

    def _open(self, recipe: FinetuneRecipe) -> Finetuning:
        return open_finetuning(replace(self.job, recipe=recipe), self.ranks, runtime=self.runtime)

    def _write(self, what: Callable[[SearchLog], None]) -> None:
        """By the first rank; should it fail, all hear of it."""
        log = self.log
        self.ranks.attempt(lambda: what(log) if log is not None else None)

    def _counts(self) -> list[tuple[int, int]]:
        """Of each rung: settings that will be on it, and the steps of the longest."""
        record, reduction = self.record, self.asked.search.reduction
        rungs = rungs_of(len(record.settings), min(record.budgets), reduction)
        counts = [len(record.settings), *(rung.keep for rung in rungs)]
        return [(count, rung.steps(max(record.budgets))) for count, rung in zip(counts, rungs, strict=False)]

    def _steps_left(self) -> int:
        """About how many steps this sitting takes."""
        if self.record.kind == "range":
            return self.asked.search.number
        left, before, done = 0, 0, len(self.record.results)
        for count, steps in self._counts():
            left += (count - min(count, done)) * (steps - before)
            before, done = steps, max(0, done - count)
        return left

    def _stopped(self, stop: StopRequest) -> str:
        by = stop.signal.name if stop.signal else "another rank"
        go_on = f"Go on with: folio finetune --resume {quote(str(self.run))}"
        if self.record.kind == "range":
            return f"stopped by {by} amid the sweep, which begins again\n       {go_on}"
        whole = sum(count for count, _ in self._counts())
        kept = f"{len(self.record.results)} of {whole} trainings are finished and kept"
        return f"the search was stopped by {by}; {kept}\n       {go_on}"
