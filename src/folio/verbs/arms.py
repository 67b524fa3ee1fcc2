"""What a comparison is between: single models, or groups of models that differ in nothing but their seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from folio.errors import UserError
from folio.evaluation.results import Evaluation

BY_HAND = "Or say yourself which are seeds of one: folio compare a-1,a-2 b-1,b-2"


def given_arms(given: Sequence[str]) -> list[list[str]]:
    """Each argument as one arm: several models where it is a list with commas (and no path of that name exists).

    :class:`UserError` for fewer than two arms, an empty name, or a model that is named twice.
    """
    arms = [[name] if Path(name).exists() else name.split(",") for name in given]
    models = [model for arm in arms for model in arm]
    if "" in models:
        raise UserError("a list of models has an empty name", "Leave no spaces in it: folio compare a-1,a-2 b-1,b-2")
    if len(arms) < 2:
        got = f"got one, '{given[0]}'" if given else "none was named"
        raise UserError(f"a comparison needs two models or more, {got}", "Name them: folio compare A B")
    places = [_place(model) for model in models]
    twice = next((model for model, place in zip(models, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise UserError(f"'{twice}' is named twice, and a model does not differ from itself", "Name it once.")
    return arms


def arms_by_seed(arms: Sequence[Sequence[str]], evaluations: Mapping[str, Evaluation]) -> list[list[str]]:
    """Single models whose recipes differ only in ``train.seed`` put together, in the order of their first.

    ``evaluations`` says which model an evaluation folder among them is of. :class:`UserError` for what is no run, for
    two models of one recipe and one seed, and where all models are one arm.
    """
    groups: dict[str, list[str]] = {}
    seeds: dict[str, dict[Any, str]] = {}
    for arm in arms:
        if len(arm) > 1:
            groups[json.dumps(arm)] = list(arm)
            continue
        key, seed = _recipe_and_seed(arm[0], evaluations)
        if (other := seeds.setdefault(key, {}).setdefault(seed, arm[0])) != arm[0]:
            raise UserError(
                f"'{other}' and '{arm[0]}' have one recipe and one seed ({seed}), so they are no two seeds",
                "Leave one of them out, or leave --seeds out.",
            )
        groups.setdefault(key, []).append(arm[0])
    if len(groups) < 2:
        raise UserError(
            f"the {len(arms)} models are all seeds of one recipe: there is nothing to compare it with",
            "Name runs of another recipe too, or leave --seeds out to compare the seeds with each other.",
        )
    return list(groups.values())


def arm_names(arms: Sequence[Sequence[str]]) -> list[str]:
    """A name for each arm: short, of what the names of its seeds have in common; as given where that is not unique."""
    names = [_common_name(arm) for arm in arms]
    return [
        name if names.count(name) == 1 else f"{arm[0]} and {len(arm) - 1} more" if len(arm) > 1 else arm[0]
        for name, arm in zip(names, arms, strict=True)
    ]


def _common_name(arm: Sequence[str]) -> str:
    from folio.verbs.evaluate.text import short_name

    names = [short_name(model) for model in arm]
    if len(names) == 1:
        return names[0]
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    name = "".join(letters[0] for letters in alike).rstrip("-_. ")
    return f"{name} ({len(names)} seeds)" if name else f"{names[0]} and {len(names) - 1} more"


def _place(model: str) -> str:
    return str(Path(model).resolve()) if Path(model).exists() else model


def _recipe_and_seed(given: str, evaluations: Mapping[str, Evaluation]) -> tuple[str, Any]:
    """The recipe but for its seed, and the checkpoint's name, of the run that a model is or lies in; and the seed."""
    from folio.verbs.evaluate.text import training_of

    trained = evaluations[given].config.get("trained") if given in evaluations else training_of(given)
    if trained is None:
        stored = evaluations.get(given)
        of = f"an evaluation of '{stored.model}', which is no run here" if stored else "no run"
        raise UserError(f"--seeds reads the recipe of each model's run, and '{given}' is {of}", BY_HAND)
    train = dict(trained["recipe"].get("train", {}))
    seed = train.pop("seed", None)
    return json.dumps([{**trained["recipe"], "train": train}, trained["checkpoint"]], sort_keys=True), seed
