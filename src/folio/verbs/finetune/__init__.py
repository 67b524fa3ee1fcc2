"""``folio finetune``: teach a model examples: all of it, its head, or adapters on it; or go on with such a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Any

import tyro

from folio.config import Table, build, leaves, read_recipe
from folio.errors import ConfigError
from folio.verbs.action import Action, Outcome, Terminal
from folio.verbs.finetune.merge import ACTION as MERGE
from folio.verbs.finetune.recipe import PLACES, FinetuneRecipe
from folio.verbs.options import read_flags
from folio.verbs.saved import begun_by


class FinetuneOptions(FinetuneRecipe):
    """A model, examples, a method, and what to do with them."""

    model: tyro.conf.Positional[str | None] = None
    """The base: a run, a checkpoint, any Hugging Face-style folder, or a hub id."""
    recipe: Path | None = None
    """A TOML file with the tables below; flags go before it."""
    out: Path | None = None
    """The run's folder. Empty: runs/ and the names of base and method."""
    or_resume: bool = False
    """Go on with the run in --out if it was begun, else begin it: for a job that its scheduler may start again."""
    resume: Path | None = None
    """A run to go on with, from its newest sound checkpoint, bit for bit, or amid its search."""


def starting_values(args: Sequence[str]) -> Table | None:
    """What flags start from: the recipe's file, or the run to be resumed."""
    given, _, _ = read_flags(dict(leaves(FinetuneOptions)), args)
    if "resume" in given:
        saved = saved_recipe(Path(given["resume"]))
        if {"train.epochs", "train.batch_tokens"} & set(given) and "train.steps" not in given:
            saved["train"]["steps"] = 0  # worked out again
        return build(FinetuneOptions, saved, source=f"'{given['resume']}/config.json'")
    if "recipe" in given:
        return build(FinetuneOptions, read_recipe(given["recipe"]), source=f"'{given['recipe']}'")
    return None


def saved_recipe(run: Path) -> dict[str, Any]:
    """The model and the tables that ``run`` was made by; :class:`ArtifactError` if it is no such run, or damaged."""
    saved = begun_by(run, "finetune")
    data = {key: near(run, value) if key in PLACES else value for key, value in saved["recipe"]["data"].items()}
    return {**saved["recipe"], "data": data, "model": near(run, saved["base"]["given"])}


def near(run: Path, given: str | None) -> str | None:
    """The path ``given`` when ``run`` was begun as it leads from here: as it is, or from a folder above the run."""
    if given is None or glob(given):
        return given
    found = next((place for parent in run.resolve().parents if glob(place := str(parent / given))), None)
    return given if found is None else os.path.relpath(found)


def finetune(options: FinetuneOptions, terminal: Terminal) -> Outcome:
    """From a base and examples to a model that has learned them, with a search before it if one is asked for."""
    if options.model is None:
        raise ConfigError("nothing to fine-tune", "Name a model: folio finetune MODEL --data FILE")
    if options.resume is not None and options.out is not None:
        raise ConfigError("--resume writes into the run's own folder", "Leave --out out.")
    from folio.ranks import joined
    from folio.verbs.evaluate.text import short_name
    from folio.verbs.finetune.starting import resume_job, start_job
    from folio.verbs.run_folder import chosen_run

    recipe = FinetuneRecipe.model_validate({name: getattr(options, name) for name in FinetuneRecipe.model_fields})
    with joined(recipe.train.device, timeout_s=recipe.train.rank_timeout_s) as ranks:
        again = any(ranks.gather(ranks.launch.restarts > 0))  # every machine has a launcher that counts its own
        if options.resume is not None:
            return resume_job(options.model, recipe, options.resume, terminal, ranks, started_again=again)
        home = Path("runs") / f"{short_name(options.model)}-{recipe.method}"
        run, begun = ranks.share(chosen_run(home, options.out, options.or_resume, ranks.launch, again))
        if not begun:
            return start_job(options.model, recipe, run, terminal, ranks)
        saved = saved_recipe(run)  # with what a search found
        own = build(FinetuneRecipe, {key: value for key, value in saved.items() if key != "model"})
        return resume_job(saved["model"], own, run, terminal, ranks, started_again=True)


ACTIONS = {
    "": Action(
        FinetuneOptions,
        finetune,
        "Fine-tune a model on examples.",
        examples=(
            "folio finetune runs/shakespeare --data places.txt",
            "folio finetune runs/shakespeare --data places.txt --method full --train.epochs 5 --train.patience 2",
            "folio finetune MODEL --data chats.jsonl --data.template chatml --method qlora --lora.rank 32",
            "folio finetune MODEL --data FILE --search.kind list --search.learning-rates 1e-4 3e-4 1e-3",
            "folio finetune --resume runs/shakespeare-lora",
        ),
        default=starting_values,
    ),
    "merge": MERGE,
}
