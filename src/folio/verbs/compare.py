"""``folio compare A B``: what two models or more differ by on the same items, and whether that could be chance."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from pydantic import Field

from folio.errors import ConfigError
from folio.verbs.action import Action, Outcome, Terminal, json_value
from folio.verbs.evaluate import EvaluateOptions

if TYPE_CHECKING:
    from folio.evaluation.comparing.comparison import Arm, Comparison
    from folio.evaluation.results import Evaluation


class CompareOptions(EvaluateOptions):
    """What to compare, and how models that have no evaluation yet are measured first."""

    models: tyro.conf.Positional[tuple[str, ...]] = ()
    """Evaluation folders, or models to be evaluated first: runs, checkpoints, Hugging Face-style folders, hub ids. The
    first is what the others are held against. A list with commas is one way of training, seen through several seeds."""
    seeds: bool = False
    """Take models whose recipes differ only in train.seed for one way of training, and count what seeds change."""
    all_pairs: bool = False
    """Compare every model with every other, instead of each with the first."""
    resampling_seed: int = Field(default=0, ge=0)
    """Where the draws of the bootstrap start: the same seed gives the same intervals."""
    to: Path | None = None
    """The page (.html) or a folder for it; the numbers go beside it as .json. Empty: a page in comparisons/."""


OWN = ("models", "seeds", "all_pairs", "resampling_seed", "to")
NOT_MEASURED = ("device", "parquet", "per_token")
"""Options of a stored evaluation that say nothing of what was measured."""
TEXTS = ("text", "corpus", "shards")


def compare(options: CompareOptions, terminal: Terminal) -> Outcome:
    """Pair what the models did item by item, print a verdict for each score, and write the page."""
    from folio.artifacts import write_file
    from folio.evaluation.comparing.comparison import Arm, compare_arms
    from folio.reports.scores import comparison_report
    from folio.verbs.arms import arm_names, arms_by_seed, given_arms

    arms = given_arms(options.models)
    stored = {model: found for arm in arms for model in arm if (found := _stored(model)) is not None}
    if options.seeds:
        arms = arms_by_seed(arms, stored)
    evaluations = _evaluated([model for arm in arms for model in arm], stored, options, terminal)
    compared = [
        Arm(name, tuple(evaluations[model] for model in arm)) for name, arm in zip(arm_names(arms), arms, strict=True)
    ]
    comparisons, notes = compare_arms(compared, all_pairs=options.all_pairs, seed=options.resampling_seed)
    _show(comparisons, notes, terminal)
    page = _page(options.to, [arm.name for arm in compared])
    data = _answer(compared, comparisons, notes)
    comparison_report(compared, comparisons, notes, page)
    numbers = page.with_suffix(".json")
    write_file(numbers, json.dumps(json_value(data), indent=2, ensure_ascii=False) + "\n")
    return Outcome(data, wrote=(page, numbers))


def _stored(given: str) -> Evaluation | None:
    """The evaluation folder that ``given`` is, None if it is something else; a damaged one is told of."""
    from folio.evaluation.results import SCORES, is_evaluation, read_evaluation

    path = Path(given)
    return read_evaluation(path) if is_evaluation(path) or (path / SCORES).is_file() else None


def _evaluated(
    models: Sequence[str], stored: dict[str, Evaluation], options: CompareOptions, terminal: Terminal
) -> dict[str, Evaluation]:
    """Every model's evaluation: those that were stored, and the others made now."""
    missing = [model for model in models if model not in stored]
    if not missing:
        if idle := sorted(options.model_fields_set - set(OWN)):
            raise ConfigError(
                f"--{idle[0].replace('_', '-')} says how to evaluate, and all that is compared is evaluated already",
                "Leave it out, or name models instead of evaluation folders.",
            )
        return stored
    from folio.verbs.evaluate import evaluate_models

    settings = {name: getattr(options, name) for name in options.model_fields_set - set(OWN)}
    if stored and not {"tasks", "harness"} & set(settings):
        before = _options_of(stored)
        if set(TEXTS) & set(settings):
            before = {key: value for key, value in before.items() if key not in TEXTS}
        settings = {**before, **settings}
    wanted = EvaluateOptions.model_validate({**settings, "models": tuple(missing)})
    return {**stored, **dict(zip(missing, evaluate_models(missing, wanted, terminal), strict=True))}


def _options_of(stored: dict[str, Evaluation]) -> dict[str, Any]:
    """How the evaluations that are there were made, for others to be made so; :class:`ConfigError` if in two ways."""
    remedy = "Say what to measure: --tasks ..."
    found: dict[str, dict[str, Any]] = {}
    for name, evaluation in stored.items():
        if not isinstance(options := evaluation.config.get("options"), dict):
            raise ConfigError(f"'{name}' does not say by which options it was made", remedy)
        found[name] = {
            key: value
            for key, value in options.items()
            if key in EvaluateOptions.model_fields and key not in NOT_MEASURED
        }
    first, *others = found
    if unlike := [name for name in others if found[name] != found[first]]:
        raise ConfigError(f"'{first}' and '{unlike[0]}' were made by other options", remedy)
    return found[first]


def _show(comparisons: Sequence[Comparison], notes: Sequence[str], terminal: Terminal) -> None:
    """A table of outcomes, whose title names the model that every row is of or against, and a sentence for each."""
    from folio.evaluation.comparing.verdict import in_short, interval_in_words, written
    from folio.reports.verdicts import one_loss_each, p_heading, score_words, without_columns

    shown = one_loss_each(comparisons, lambda one: (one.measurement, one.first, one.second, one.score.metric))
    columns = ["score", "of", "against", "difference", "95 %", p_heading(one.tests for one in shown), "n", "verdict"]
    rows = []
    for one in shown:
        by, verdict = one.difference, one.verdict
        rows.append(
            [
                score_words(one.measurement, one.score.metric),
                one.second,
                one.first,
                written(by.value, one.accuracy),
                interval_in_words(by, one.accuracy).strip("()").removeprefix("95 % "),
                _probability(one.p_adjusted, "<" * by.p_is_bound),
                by.n,
                in_short(verdict.outcome, verdict.items_needed, verdict.seeds_needed),
            ]
        )
    same = [name for name in ("of", "against") if len({row[columns.index(name)] for row in rows}) == 1]
    said = [str(rows[0][columns.index(name)]) for name in same]
    title = " against ".join(said) if len(same) == 2 else " ".join([*same, *said])
    terminal.table(*without_columns(columns, rows, same), title=title or None)
    for one in shown:
        left_out = one.only_first + one.only_second + one.unequal
        told = f" ({left_out:,} items left out: not the same on both sides)" if left_out else ""
        score = score_words(one.measurement, one.score.metric)
        terminal.print(f"{score}, {one.second} against {one.first} (n counts {one.score.unit}):")
        terminal.print(f"  {one.verdict.words}{told}")
    for note in notes:
        terminal.print(note, style="dim")


def _probability(p: float, sign: str) -> str:
    return "" if math.isnan(p) else f"{sign}{p:.2g}"


def _answer(arms: Sequence[Arm], comparisons: Sequence[Comparison], notes: Sequence[str]) -> dict[str, Any]:
    listed = [
        {
            "name": arm.name,
            "evaluations": [
                {
                    "model": one.model,
                    "evaluation": str(one.path),
                    "scores": {
                        name: [score.as_dict() for score in measurement.scores]
                        for name, measurement in one.measurements.items()
                    },
                }
                for one in arm.evaluations
            ],
        }
        for arm in arms
    ]
    return {"arms": listed, "comparisons": [one.as_dict() for one in comparisons], "notes": list(notes)}


def _page(to: Path | None, names: Sequence[str]) -> Path:
    """Where the page goes: as asked, or in comparisons/ by the names of what was compared, and a number if need be."""
    if to is not None:
        return to if to.suffix == ".html" else to / "comparison.html"
    from folio.verbs.evaluate.text import short_name

    short = [short_name(name).strip("-.")[:60] or "model" for name in names]
    more = f"-and-{len(short) - 2}-more" if len(short) > 2 else ""
    stem = f"{short[0]}-against-{short[1]}{more}"
    numbered = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
    free = (Path("comparisons") / f"{name}.html" for name in numbered)
    return next(page for page in free if not page.exists() and not page.with_suffix(".json").exists())


ACTIONS = {
    "": Action(
        CompareOptions,
        compare,
        "Compare models item by item: better, worse, or cannot tell.",
        examples=(
            "folio compare evaluations/a evaluations/b",
            "folio compare runs/a runs/b runs/c --tasks hellaswag --all-pairs",
            "folio compare runs/base-1,runs/base-2 runs/new-1,runs/new-2 --tasks loss",
            "folio compare runs/* --seeds --tasks loss",
        ),
    )
}
