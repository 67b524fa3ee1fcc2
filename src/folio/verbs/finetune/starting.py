"""A fine-tuning run from its first step, or from where it stopped: base and examples read, searched for, trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from folio.artifacts import environment, refuse_occupied, write_file
from folio.checksums import read_sealed_json, sealed_json
from folio.finetuning.samples import sample_prompts
from folio.finetuning.statistics import CountsBySide
from folio.finetuning.targets import chosen_parts
from folio.ranks import Ranks
from folio.tokenizer import load_tokenizer
from folio.training.checkpoint import list_checkpoints
from folio.verbs.action import Outcome, Terminal
from folio.verbs.finetune.afterwards import Afterwards
from folio.verbs.finetune.forgetting import base_task
from folio.verbs.finetune.opening import FinetuneJob, Finetuning, OpenedBase, settled
from folio.verbs.finetune.recipe import ADAPTERS, FinetuneRecipe, with_usual_rate
from folio.verbs.finetune.search_plan import planned
from folio.verbs.finetune.searching import search
from folio.verbs.finetune.tasks import task_of
from folio.verbs.run import coming_back, ending_of, only_writer, resume, start, start_inside, write_report
from folio.verbs.session import create_run


def start_job(model: str, recipe: FinetuneRecipe, run: Path, terminal: Terminal, ranks: Ranks) -> Outcome:
    """A new run in ``run``, after a search if one is asked for."""
    ranks.attempt(lambda: refuse_occupied(run) if ranks.first else None)
    asked = with_usual_rate(recipe)
    job = job_of(model, asked, run, terminal, ranks)
    if asked.search.kind == "none":
        return start(job, run, terminal, ranks)
    planned(job, asked, ranks.world_size)  # what cannot be searched is refused before anything is written
    begun = {
        "verb": Finetuning.verb,
        "preset": job.preset,
        "recipe": asked.model_dump(mode="json"),
        **job.identity(),
        "job": ranks.launch.job,
        "environment": environment(),
    }
    ranks.attempt(lambda: create_run(run, begun) if ranks.first else None)
    with only_writer(run, ranks):
        return start_inside(search(job, asked, run, terminal, ranks), run, terminal, ranks)


def resume_job(
    model: str,
    recipe: FinetuneRecipe,
    run: Path,
    terminal: Terminal,
    ranks: Ranks,
    *,
    started_again: bool = False,
) -> Outcome:
    """Go on with ``run``: with its search, its steps, or of one that has done them with what was to be made of it."""
    saved = read_sealed_json(run / "config.json")
    job = job_of(model, recipe, run, terminal, ranks, saved.get("search"))
    if "resolved" not in saved:
        job.refuse_another(run, saved)
        with only_writer(run, ranks):
            return start_inside(search(job, recipe, run, terminal, ranks), run, terminal, ranks)
    if ranks.share(_is_to_be_looked_at(job, run, saved)):
        with only_writer(run, ranks):
            return _look_again(job, run, saved, terminal, ranks)
    return resume(job, run, terminal, ranks, started_again=started_again)


def _is_to_be_looked_at(job: FinetuneJob, run: Path, saved: Mapping[str, Any]) -> bool:
    """Whether all steps are done, and what comes after them is not, or is asked for in another way."""
    checkpoints = list_checkpoints(run)
    if not checkpoints or ending_of(run, job, checkpoints[-1].step) is None:
        return False
    return not job.afterwards.is_made(run) or _after(job.recipe.model_dump(mode="json")) != _after(saved["recipe"])


def _after(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {table: recipe[table] for table in ("samples", "generation", "forgetting")}


def _look_again(job: FinetuneJob, run: Path, saved: Mapping[str, Any], terminal: Terminal, ranks: Ranks) -> Outcome:
    """Samples, forgetting and report of a finished run, and nothing of its training."""
    job.refuse_another(run, saved)
    if not ranks.first:
        return Outcome()
    recipe = {**saved["recipe"], **_after(job.recipe.model_dump(mode="json"))}
    write_file(run / "config.json", sealed_json({**saved, "recipe": recipe}))
    with coming_back(Finetuning.verb, run):
        found = job.afterwards.make(run, terminal, job.task.objective(job.base.shape).unit)
    return Outcome({"run": str(run), **found}, (write_report(run),), job.following(run))


def job_of(
    model: str,
    recipe: FinetuneRecipe,
    run: Path,
    terminal: Terminal,
    ranks: Ranks,
    found: Mapping[str, Any] | None = None,
) -> FinetuneJob:
    """Base and examples read, and nothing of the recipe left open. What is wrong with them is told here."""

    def read() -> FinetuneJob:
        base = OpenedBase.at(model)
        if recipe.method in ADAPTERS:
            chosen_parts(base.shape, recipe.lora.targets)  # a misspelt layer is told before the data are read
        task = task_of(recipe, load_tokenizer(base.folder), base.shape.block_size)
        prompts = sample_prompts(recipe.samples, task.tokenizer, recipe.data, task.sets, task.block_size)
        forgotten = base_task(model, run, recipe.forgetting, terminal, device=recipe.train.device)
        afterwards = Afterwards(model, recipe, task, prompts, forgotten)
        return FinetuneJob(settled(recipe, task, ranks.world_size), base, task, afterwards, found)

    job = ranks.first_on_each_machine(read)
    show_data(job.task.statistics, terminal)
    for warning in job.task.warnings(job.recipe.train.batch_tokens // job.task.block_size):
        terminal.print(warning, style="yellow")
    return job


def show_data(statistics: CountsBySide, terminal: Terminal) -> None:
    """What the examples are like, before anything is spent on them."""
    header = statistics.header()
    template = f", template {statistics.template}" if statistics.template else ""
    terminal.print(f"data       {statistics.format}{template}; rows of {statistics.block_size:,} places")
    terminal.table(header, statistics.rows())
