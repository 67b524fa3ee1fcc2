"""A fine-tuning run from its first step, or from where it stopped: base and examples read, searched for, trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from folio.artifacts import environment, refuse_occupied
from folio.checksums import read_sealed_json
from folio.finetuning.samples import sample_prompts
from folio.finetuning.statistics import CountsBySide
from folio.ranks import Ranks
from folio.tokenizer import load_tokenizer
from folio.training.checkpoint import list_checkpoints
from folio.verbs.action import Outcome, Terminal
from folio.verbs.finetune.afterwards import Afterwards
from folio.verbs.finetune.forgetting import base_task
from folio.verbs.finetune.opening import FinetuneJob, Finetuning, OpenedBase, settled
from folio.verbs.finetune.recipe import FinetuneRecipe, with_usual_rate
from folio.verbs.finetune.search_plan import planned
from folio.verbs.finetune.searching import search
from folio.verbs.finetune.tasks import task_of
from folio.verbs.run import ending_of, only_writer, resume, start, start_inside, write_report
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
        "environment": environment(),
    }
    ranks.attempt(lambda: create_run(run, begun) if ranks.first else None)
    with only_writer(run, ranks):
        return start_inside(search(job, asked, run, terminal, ranks), run, terminal, ranks)


def resume_job(model: str, recipe: FinetuneRecipe, run: Path, terminal: Terminal, ranks: Ranks) -> Outcome:
    """Go on with ``run``: with its search, its steps, or of one that has done them with what was to be made of it."""
    saved = read_sealed_json(run / "config.json")
    job = job_of(model, recipe, run, terminal, ranks, saved.get("search"))
    if "resolved" not in saved:
        job.refuse_another(run, saved)
        with only_writer(run, ranks):
            return start_inside(search(job, recipe, run, terminal, ranks), run, terminal, ranks)
    if ranks.share(_only_afterwards_left(job, run)):
        found = job.afterwards.make(run, terminal, job.task.objective(job.base.shape).unit) if ranks.first else {}
        return Outcome({"run": str(run), **found}, (write_report(run),) if ranks.first else (), job.following(run))
    return resume(job, run, terminal, ranks)


def _only_afterwards_left(job: FinetuneJob, run: Path) -> bool:
    checkpoints = list_checkpoints(run)
    ended = bool(checkpoints) and ending_of(run, job, checkpoints[-1].step) is not None
    return ended and checkpoints[-1].step == job.steps and not job.afterwards.is_made(run)


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
        task = task_of(recipe, load_tokenizer(base.folder), base.shape.block_size)
        prompts = sample_prompts(recipe.samples, task.tokenizer, recipe.data, task.sets, task.block_size)
        forgotten = base_task(model, run, recipe.forgetting, terminal, device=recipe.train.device)
        afterwards = Afterwards(model, recipe, prompts, forgotten)
        return FinetuneJob(settled(recipe, task, ranks.world_size), base, task, afterwards, found)

    job = ranks.first_on_each_machine(read)
    show_data(job.task.statistics, terminal)
    return job


def show_data(statistics: CountsBySide, terminal: Terminal) -> None:
    """What the examples are like, before anything is spent on them."""
    header = statistics.header()
    template = f", template {statistics.template}" if statistics.template else ""
    terminal.print(f"data       {statistics.format}{template}; rows of {statistics.block_size:,} places")
    terminal.table(header, statistics.rows())
