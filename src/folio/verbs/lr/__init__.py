"""``folio lr``: the learning rate to train a recipe at, found by its own data, batch and optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import tyro

from folio.config import Table, build, leaves
from folio.errors import ConfigError, UserError
from folio.verbs.action import Action, Outcome, Terminal
from folio.verbs.lr.asked import RateQuestion
from folio.verbs.options import over_recipe, read_flags
from folio.verbs.recipe import Recipe

if TYPE_CHECKING:
    from folio.verbs.lr.answer import FoundRate


class RateOptions(Recipe, RateQuestion):
    """A recipe, and how closely to look for its learning rate."""

    recipe: tyro.conf.Positional[str | None] = None
    """A preset's name or a TOML file."""
    out: Path | None = None
    """The folder for what is found. Empty: rates/ and the recipe's name."""
    resume: Path | None = None
    """Go on with such a folder; more seeds, or a refinement, may be asked for besides."""


def starting_values(args: Sequence[str]) -> Table | None:
    """What flags start from: the preset, the file, or the folder to go on with."""
    given, loose, _ = read_flags(dict(leaves(RateOptions)), args)
    if "resume" not in given:
        return over_recipe(RateOptions)(args)
    from folio.verbs.lr.folder import asked_before

    folder = Path(given["resume"])
    saved = asked_before(folder)
    if loose and loose[0] != saved["recipe"]:
        raise ConfigError(f"--resume goes on with {saved['recipe']}, not with '{loose[0]}'", "Leave the recipe out.")
    return build(RateOptions, saved, source=f"'{folder}/config.json'")


def lr(options: RateOptions, terminal: Terminal) -> Outcome:
    """Sweep, refine if asked to, and say the rate with the flags that give it."""
    if options.recipe is None:
        raise ConfigError("no recipe was named", "Give a preset or a TOML file: folio lr shakespeare")
    if options.resume is not None and options.out is not None:
        raise ConfigError("--resume writes into the folder it goes on with", "Leave --out out.")
    from folio.artifacts import refuse_occupied
    from folio.verbs.lr.finding import suggested_rate
    from folio.verbs.lr.folder import refuse_another
    from folio.verbs.lr.told import say_plan, write_answer
    from folio.verbs.run_folder import fresh_folder
    from folio.verbs.train import recipe_name

    recipe = Recipe.model_validate({name: getattr(options, name) for name in Recipe.model_fields})
    asked = RateQuestion.model_validate({name: getattr(options, name) for name in RateQuestion.model_fields})
    folder = options.resume or options.out or fresh_folder(Path("rates") / recipe_name(options.recipe))
    if options.resume is None:
        refuse_occupied(folder)
    else:
        refuse_another(folder, recipe, asked)
    say_plan(recipe, asked, terminal)
    found = suggested_rate(recipe, asked, folder, terminal, preset=options.recipe)
    page = write_answer(found, recipe, options.recipe, folder)
    if found.rate is None:
        raise UserError(
            f"the range test cannot suggest a learning rate: {found.why}",
            f"Sweep other rates (--low, --high) or more --steps; the curve is in {page}",
        )
    return _told(found, recipe, options.recipe, folder, page, terminal)


def _told(found: FoundRate, recipe: Recipe, preset: str, folder: Path, page: Path, terminal: Terminal) -> Outcome:
    from folio.verbs.lr.folder import ANSWER
    from folio.verbs.lr.plan import train_command
    from folio.verbs.lr.told import say_answer

    assert found.rate is not None
    say_answer(found, recipe, terminal)
    command = train_command(recipe, preset, found.rate)
    more = () if found.record.refinement is not None else (f"folio lr --resume {quote(str(folder))} --refine.rates 5",)
    data = {"recipe": preset, **found.as_dict(), "command": command}
    return Outcome(data, wrote=(folder / ANSWER, page), next=(command, *more))


ACTIONS = {
    "": Action(
        RateOptions,
        lr,
        "Find the learning rate of a recipe: a range test and, if asked, short trainings around what it suggests.",
        examples=(
            "folio lr tiny-shakespeare-char",
            "folio lr my.toml --seeds 3 --low 1e-4 --high 0.3",
            "folio lr shakespeare --refine.rates 5 --refine.steps 200",
            "folio lr --resume rates/shakespeare --seeds 3",
        ),
        default=starting_values,
    )
}
