"""What a search before a fine-tuning run tries: the recipes of its trials, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from folio.config import build, deep_merge
from folio.errors import ConfigError
from folio.evaluation.config import EvaluationConfig
from folio.finetuning.search.records import SearchRecord
from folio.finetuning.search.settings import RATE, Setting, settings_of
from folio.reports.page import flatten
from folio.training.plan import sequences_per_rank, solve_batch
from folio.verbs.finetune.opening import FinetuneJob, settled
from folio.verbs.finetune.recipe import ADAPTERS, FinetuneRecipe, with_usual_rate
from folio.verbs.options import nested

DECIDING = (
    *("steps", "batch_tokens", "seed", "optimizer", "schedule", "clip_norm", "spikes", "ema_decay", "dropout"),
    *("precision", "validation_tokens"),
)
"""Keys of [train] that trials go by: they stay for as long as a search takes, or its losses could not be compared."""


def planned(job: FinetuneJob, asked: FinetuneRecipe, world_size: int = 1) -> SearchRecord:
    """What the search in ``asked`` would try, with nothing tried yet. ``job`` is of the same recipe, settled.

    :class:`ConfigError` for what cannot be searched with this method, optimizer or data.
    """
    config, task = asked.search, job.task
    settings = [] if config.kind == "range" else settings_of(config)
    if settings and not task.sets.validation:
        raise ConfigError(
            "a search compares validation losses, and no examples are held out",
            "Hold some out (--data.validation-fraction 0.1), or use --search.kind range, which needs none.",
        )
    if config.rank and asked.method not in ADAPTERS:
        raise ConfigError(f"search.rank is for lora and qlora, not for {asked.method}", "Leave it out.")
    if config.epochs and asked.train.steps:
        steps = f"train.steps is {asked.train.steps:,}"
        raise ConfigError(f"{steps}, which leaves search.epochs nothing to decide", "Leave one of them out.")
    if asked.train.optimizer.kind == "muon" and (not settings or RATE in settings[0].values):
        raise ConfigError(
            "a search moves AdamW's learning rate; with muon the matrices go by muon_learning_rate",
            "Use --train.optimizer.kind adamw, or search without learning rates.",
        )
    for setting in settings:  # a batch that cannot be cut is told before anything is trained
        train = run_recipe(job, asked, setting, world_size).train
        solve_batch(train.batch_tokens, task.block_size, train.micro_batch, world_size=world_size)
    budgets = [budget_of(job, asked, setting, world_size) for setting in settings]
    return SearchRecord(config.kind, task.objective(job.base.shape).unit, _facts(job, asked), settings, budgets)


def refuse_another(job: FinetuneJob, asked: FinetuneRecipe, begun: SearchRecord) -> None:
    """:class:`ConfigError` if a search was ``begun`` with something else than it would be gone on with."""
    before, now = flatten(begun.asked), flatten(_facts(job, asked))
    if changed := [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]:
        raise ConfigError(
            f"the search was begun with another {' and '.join(changed)}",
            "Leave the flag out, or start a new run: the losses could not be compared.",
        )


def _facts(job: FinetuneJob, asked: FinetuneRecipe) -> dict[str, Any]:
    """What has to stay as it is; what is searched itself is left out."""
    search = asked.search.model_dump(mode="json")
    train = job.recipe.train.model_dump(mode="json", include=set(DECIDING))
    lora = asked.lora.model_dump(mode="json")
    if asked.search.epochs or asked.search.batch_tokens:
        train["steps"] = asked.train.steps  # 0: each setting has as many as its epochs take
    if asked.search.batch_tokens:
        del train["batch_tokens"]
    if asked.search.rank:
        del lora["rank"]
    if asked.search.kind in ("range", "random") or asked.search.learning_rates:
        del train["optimizer"]["learning_rate"]
    dpo = asked.dpo.model_dump(mode="json")
    given = {"search": search, "method": asked.method, "lora": lora, "dpo": dpo, "train": train}
    return {**given, "base": job.base.identity.weights, "examples": job.task.fingerprint}


def applied(recipe: FinetuneRecipe, values: Mapping[str, float | int]) -> FinetuneRecipe:
    """``recipe`` with ``values`` by dotted keys."""
    return build(FinetuneRecipe, deep_merge(with_usual_rate(recipe).model_dump(), nested(dict(values))))


def run_recipe(job: FinetuneJob, asked: FinetuneRecipe, setting: Setting, world_size: int) -> FinetuneRecipe:
    """What the run itself would be with a ``setting``, nothing left open."""
    return settled(applied(asked, setting.keys()), job.task, world_size)


def budget_of(job: FinetuneJob, asked: FinetuneRecipe, setting: Setting, world_size: int) -> int:
    """Steps of a setting's longest trial."""
    recipe, config = run_recipe(job, asked, setting, world_size), asked.search
    if config.epochs:
        return recipe.train.steps
    bounds = [recipe.train.steps]
    if config.budget_steps is not None:
        bounds.append(config.budget_steps)
    if config.budget_epochs is not None or config.budget_steps is None:
        per_rank = sequences_per_rank(recipe.train.batch_tokens, job.task.block_size, world_size)
        bounds.append(job.task.rows(per_rank * world_size).steps_for(config.budget_epochs or 1.0))
    return min(bounds)


def trial_recipe(recipe: FinetuneRecipe, budget: int) -> FinetuneRecipe:
    """The run's ``recipe`` made as short as ``budget`` steps, its schedule with it, and nothing measured on the way."""
    train = recipe.train
    warmup = math.ceil(train.schedule.warmup_steps * budget / train.steps)
    schedule = train.schedule.model_copy(update={"warmup_steps": warmup})
    short = {"steps": budget, "schedule": schedule, "best_by": "loss", "track": (), "sample_every": 0}
    return recipe.model_copy(update={"train": train.model_copy(update=short), "evaluation": EvaluationConfig()})
