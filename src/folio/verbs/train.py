"""``folio train``: a model from a preset or a TOML file, or a run taken up where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from folio.config import Table, build, leaves
from folio.errors import ConfigError
from folio.launch import launched
from folio.verbs.action import Action, Outcome, Terminal
from folio.verbs.options import over_recipe, read_flags
from folio.verbs.recipe import Recipe
from folio.verbs.run_folder import chosen_run
from folio.verbs.saved import begun_by


class TrainOptions(Recipe):
    """A recipe, and what to do with it."""

    recipe: tyro.conf.Positional[str | None] = None
    """A preset's name or a TOML file."""
    out: Path | None = None
    """The run's folder. Empty: runs/ and the recipe's name."""
    resume: Path | None = None
    """A run to go on with, from its newest sound checkpoint, bit for bit."""
    or_resume: bool = False
    """Go on with the run in --out if it was begun, else begin it: for a job that its scheduler may start again."""
    overfit: bool = False
    """Only check that the model can learn a single small batch by heart; writes nothing."""


def starting_values(args: Sequence[str]) -> Table | None:
    """The recipe that flags start from: the preset, the file, or the run to be resumed."""
    given, loose, _ = read_flags(dict(leaves(TrainOptions)), args)
    if "resume" in given:
        saved = saved_recipe(Path(given["resume"]), loose[0] if loose else None)
        return build(TrainOptions, saved, source=f"'{given['resume']}/config.json'")
    return over_recipe(TrainOptions)(args)


def saved_recipe(run: Path, preset: str | None = None) -> dict[str, Any]:
    """The tables of the recipe that ``run`` was made by; :class:`ArtifactError` if it is no run, or damaged."""
    saved = begun_by(run, "train")
    recipe: dict[str, Any] = saved["recipe"]
    if preset is not None and preset != saved.get("preset"):
        raise ConfigError(
            f"--resume goes on with the run's own recipe ({saved.get('preset')}), not with '{preset}'",
            "Leave the recipe out.",
        )
    if "vocab_size" in recipe.get("model", {}):
        del recipe["model"]["vocab_size"]
    return recipe


def train(options: TrainOptions, terminal: Terminal) -> Outcome:
    """Run a recipe from text to a trained model."""
    if options.recipe is None and options.resume is None:
        raise ConfigError("nothing to train", "Give a preset or a TOML file: folio train shakespeare")
    recipe = Recipe.model_validate({name: getattr(options, name) for name in Recipe.model_fields})
    if options.overfit:
        from folio.verbs.overfit import overfit

        if options.out is not None:
            raise ConfigError("--overfit writes nothing", "Leave --out out.")
        if launched().world_size > 1:
            raise ConfigError("--overfit runs in one process", "Start it without torchrun.")
        return overfit(recipe, terminal)
    if options.resume is not None and options.out is not None:
        raise ConfigError("--resume writes into the run's own folder", "Leave --out out.")
    from folio.ranks import joined
    from folio.verbs.pretraining import PretrainingJob
    from folio.verbs.run import resume, start

    with joined(recipe.train.device, timeout_s=recipe.train.rank_timeout_s) as ranks:
        again = any(ranks.gather(ranks.launch.restarts > 0))  # every machine has a launcher that counts its own
        if options.resume is not None:
            return resume(PretrainingJob(recipe, "", terminal), options.resume, terminal, ranks, started_again=again)
        assert options.recipe is not None
        job = PretrainingJob(recipe, options.recipe, terminal)
        home = Path("runs") / recipe_name(options.recipe)
        run, begun = ranks.share(chosen_run(home, options.out, options.or_resume, ranks.launch, again))
        if begun:
            return resume(job, run, terminal, ranks, started_again=True)
        return start(job, run, terminal, ranks)


def recipe_name(given: str) -> str:
    return Path(given).stem if given.endswith(".toml") else Path(given).name


ACTIONS = {
    "": Action(
        TrainOptions,
        train,
        "Train a model from a preset or a TOML file.",
        examples=(
            "folio train tiny-shakespeare-char",
            "folio train my.toml --train.steps 500 --train.optimizer.learning-rate 1e-3",
            "folio train --resume runs/my",
            "folio train shakespeare --overfit",
            "torchrun --nproc_per_node 2 -m folio train gpt2 --out runs/gpt2",
        ),
        default=starting_values,
    )
}
