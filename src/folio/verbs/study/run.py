"""``folio study run STUDY``: every cell that is not finished is trained; what is finished is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

from pydantic import Field
from tyro.conf import Positional

from folio.artifacts import write_file
from folio.config import Table
from folio.errors import ConfigError, Interrupted, UserError
from folio.evaluation.config import EvaluationConfig
from folio.locks import locked
from folio.shards.pool import cores
from folio.studies.grid.spec import WHOLE, Study
from folio.studies.running.child import command_line
from folio.studies.running.engine import CellJob, Engine, LocalEngine, shared_out
from folio.studies.running.records import OVER, CellLog, CellState, StudyFolder
from folio.studies.running.work import Ended, work_off
from folio.verbs.action import Outcome, Terminal
from folio.verbs.study.judging import judge, oracle_cells, refuse_missing_oracle, refuse_oracle
from folio.verbs.study.opening import (
    OpenedCell,
    Planned,
    open_cells,
    planned_cells,
    recipe_text,
    scale_of,
    study_and_folder,
)
from folio.verbs.study.rates import families_of, rate_question, with_found_rates
from folio.verbs.study.report import write_report
from folio.verbs.study.showing import shown


class RunOptions(Table):
    """Which study, and how its cells are trained."""

    study: Positional[str]
    """A shipped study's name, a TOML file, or the folder of a study to go on with."""
    scale: str = WHOLE
    """Which form of the study: one of the file's [scales], such as small, or the whole of it."""
    small: bool = False
    """The same as --scale small."""
    out: Path | None = None
    """The study's folder. Empty: runs/ and its name."""
    workers: int = Field(default=1, ge=1)
    """Cells trained at once on this machine; its cores are shared out among them, and its GPUs given in turn. On Ray, 1
    means as many as the cluster holds."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of each cell. Empty: cores divided by workers. A cell under way keeps those that it began with."""
    order: Literal["cheapest", "file"] = "cheapest"
    """Which cells come first: those with the fewest floating-point operations, or as the file has them."""
    retry: bool = False
    """Train cells again that failed before."""
    dry_run: bool = False
    """Only list the cells and what they take; trains nothing and writes nothing but the data's cache."""
    engine: Literal["local", "ray"] = "local"
    """Processes of this machine, or tasks of a Ray cluster whose machines share the file system."""
    address: str | None = None
    """Of the Ray cluster, such as auto or ray://HOST:10001. Empty: one is begun on this machine."""
    gpus_per_cell: float = Field(default=0.0, ge=0)
    """GPUs that each cell asks of Ray; a fraction lets several share one."""


def run(options: RunOptions, terminal: Terminal) -> Outcome:
    """Train what is left of a study, and write its report. :class:`UserError` at the end if a cell failed."""
    from folio.studies.findings.vocabulary import write_texts

    if options.engine == "local" and (options.address is not None or options.gpus_per_cell):
        raise ConfigError("--address and --gpus-per-cell are for Ray", "Give --engine ray, or leave them out.")
    study, folder = study_and_folder(options.study, scale_of(options.scale, options.small), options.out)
    folder.refuse_another(study)
    planned, beside = _planned(study), oracle_cells(study)
    if options.dry_run:
        searches = len(families_of(study, planned)) if study.rates is not None else 0
        return _listed(open_cells(study, planned, beside, terminal), searches, folder, terminal)
    refuse_missing_oracle(study, planned)
    with folder.alone():
        folder.refuse_another(study)
        folder.write(study, *folder.known())  # so that a search for rates that is stopped goes on with this study
        planned, rates = with_found_rates(study, planned, folder, terminal)
        opened = open_cells(study, planned, beside, terminal)
        names = [cell.name for cell in opened]
        folder.write(study, {cell.name: cell.facts() for cell in opened}, rates)
        recipes = [cell.recipe for cell in opened if cell.recipe.corpus_is_read]
        write_texts(folder, [(recipe.corpus, recipe.tokenizer) for recipe in recipes])
        states = folder.states(names)
        _tell_what_is_there(folder, states, terminal)
        for cell in opened:
            text = recipe_text(cell.recipe, cell.words)
            if not folder.recipe(cell.name).is_file() or folder.recipe(cell.name).read_text(encoding="utf-8") != text:
                write_file(folder.recipe(cell.name), text)
        jobs = _jobs(opened, states, folder, options)
        ended = _train(jobs, states, folder, options, terminal) if jobs else []
        states = folder.states(names)
        finished = [cell for cell in opened if states[cell.name].status == "finished"]
        trouble = _judged(study, folder, finished, terminal)
        data, wrote = write_report(folder, terminal)
    failed = {name: state for name, state in states.items() if state.status == "failed"}
    if failed:
        raise _failures(failed, folder, options)
    if trouble is None and (lost := [cell for cell in opened if cell.is_oracle and cell not in finished]):
        trouble = UserError(f"the oracle has not judged: {states[lost[0].name].error}", "Mend oracle.recipe.")
    if trouble is not None:
        raise trouble
    trained = [one.job.name for one in ended]
    return Outcome({**data, "trained": trained}, wrote, (f"folio study report {quote(str(folder.path))}",))


def _judged(study: Study, folder: StudyFolder, finished: Sequence[OpenedCell], terminal: Terminal) -> UserError | None:
    """What kept the oracle from judging, None if nothing did: the report is worth having all the same."""
    try:
        judge(study, folder, finished, terminal)
    except UserError as error:
        return UserError(f"the oracle has not judged: {error.problem}", error.remedy)
    return None


def _planned(study: Study) -> Planned:
    """The cells with their recipes; :class:`ConfigError` for whatever the study asks for and cannot have."""
    from folio.reports.study.own_figures import refuse_figures
    from folio.studies.findings.contrasts import refuse_contrasts
    from folio.studies.findings.measures import refuse_measures

    planned = planned_cells(study)
    if study.rates is not None:
        rate_question(study)
        families_of(study, planned)
    cells = [cell for cell, _ in planned]
    refuse_contrasts(study, cells)
    refuse_figures(study, cells)
    refuse_measures(study, any(recipe.evaluation != EvaluationConfig() for _, recipe in planned))
    refuse_oracle(study, planned)
    return planned


def _jobs(
    opened: Sequence[OpenedCell], states: Mapping[str, CellState], folder: StudyFolder, options: RunOptions
) -> list[CellJob]:
    """What is left to be trained: cells under way first, then an oracle, then the others in the order asked for."""
    left = ("waiting", "begun", *(("failed",) if options.retry else ()))
    jobs = [
        CellJob(
            cell.name,
            cell.words,
            folder.run(cell.name),
            folder.log(cell.name),
            tuple(
                command_line(
                    ["train", str(folder.recipe(cell.name)), "--out", str(folder.run(cell.name)), "--or-resume"]
                )
            ),
            cell.flops,
            cell.recipe.train.steps,
            states[cell.name].threads,
            states[cell.name].attempts,
        )
        for cell in opened
        if states[cell.name].status in left
    ]
    if options.order == "cheapest":
        jobs.sort(key=lambda job: job.cost)
    oracles = [cell.name for cell in opened if cell.is_oracle]
    return sorted(jobs, key=lambda job: (states[job.name].status != "begun", job.name not in oracles))


def _train(
    jobs: Sequence[CellJob],
    states: Mapping[str, CellState],
    folder: StudyFolder,
    options: RunOptions,
    terminal: Terminal,
) -> list[Ended]:
    from folio.training.stopping import StopRequest

    with _engine(options, terminal) as engine, CellLog(folder) as log, StopRequest.listening() as stop:
        go_on = f"Go on with: folio study run {quote(str(folder.path))}"
        try:
            with shown(terminal, states, jobs) as listener:
                ended = work_off(jobs, engine, log, listener, lambda: stop.made, is_trained_by_another)
        except KeyboardInterrupt:
            raise Interrupted(f"stopped at once; cells go on from their last checkpoints\n       {go_on}") from None
        if stop.made:
            over = sum(state.status in OVER for state in folder.states(list(states)).values())
            by = stop.signal.name if stop.signal else "a signal"
            raise Interrupted(f"stopped by {by}: {over} of {len(states)} cells are finished\n       {go_on}")
    return ended


@contextmanager
def _engine(options: RunOptions, terminal: Terminal) -> Iterator[Engine]:
    if options.engine == "ray":
        from folio.studies.running.ray_engine import RayEngine

        room = options.workers if options.workers > 1 else None
        engine = RayEngine(options.threads or 1, options.gpus_per_cell, room, options.address)
        terminal.print(f"ray        {engine.room} cells at once, {engine.threads} CPUs each")
        try:
            yield engine
        finally:
            engine.close()
        return
    import torch

    threads = options.threads or shared_out(cores(), options.workers)
    terminal.print(f"workers    {options.workers}, {threads} thread{'s' * (threads > 1)} each")
    yield LocalEngine(options.workers, threads, torch.cuda.device_count())


def is_trained_by_another(run: Path) -> bool:
    """Whether a process holds the lock of a run: one that a killed study left behind, and that saves still."""
    from folio.verbs.run import LOCK

    if not (run / LOCK).exists():
        return False
    with locked(run / LOCK, wait=False) as held:
        return not held


def _tell_what_is_there(folder: StudyFolder, states: Mapping[str, CellState], terminal: Terminal) -> None:
    statuses = [state.status for state in states.values()]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    terminal.print(f"study      {len(states)} cells in {folder.path}: {counts}")
    if strangers := folder.strangers(list(states)):
        words = "belongs" if len(strangers) == 1 else "belong"
        terminal.print(
            f"           {len(strangers)} more in the folder {words} to none of the study's cells as it is now, and "
            f"count for nothing: {strangers[0]}{', ...' * (len(strangers) > 1)}",
            style="yellow",
        )


def _failures(failed: Mapping[str, CellState], folder: StudyFolder, options: RunOptions) -> UserError:
    name, state = next(iter(failed.items()))
    count = "one cell failed" if len(failed) == 1 else f"{len(failed)} cells failed, the first"
    return UserError(
        f"{count}: {name}: {state.error} (log: {folder.log(name)})",
        f"When that is mended: folio study run {quote(str(folder.path))} --retry",
    )


def _listed(opened: Sequence[OpenedCell], searches: int, folder: StudyFolder, terminal: Terminal) -> Outcome:
    if searches:
        terminal.print(f"{searches} searches for learning rates come first; the cells' names will be of what they find")
    rows = [(cell.words, cell.recipe.train.steps, cell.parameters, cell.flops) for cell in opened]
    terminal.table(("cell", "steps", "parameters", "training FLOPs"), rows)
    whole = sum(cell.flops for cell in opened)
    beside = " and an oracle" if any(cell.is_oracle for cell in opened) else ""
    terminal.print(f"{len(opened) - bool(beside)} cells{beside}, {whole:.3g} floating-point operations")
    cells = [{"name": cell.name, **cell.facts()} for cell in opened]
    return Outcome({"cells": cells, "folder": str(folder.path)})
