"""The folder of a search for a learning rate: what was asked, and what is finished of it.

``config.json`` is the question; ``sweeps.jsonl`` has a line for each sweep, only appended to; ``search.jsonl`` is the
refinement's, as in a fine-tuning run; ``lr.json`` is the answer, ``report.html`` its page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from folio.artifacts import write_file
from folio.checksums import sealed_json
from folio.config import build
from folio.errors import ArtifactError, ConfigError
from folio.finetuning.search.records import SearchRecord, read_search
from folio.reports.page import flatten
from folio.training.metrics import MetricsLog, read_metrics
from folio.training.objective import loss_key
from folio.training.rate_curve import Sweep
from folio.verbs.lr.asked import RateQuestion
from folio.verbs.recipe import Recipe
from folio.verbs.saved import begun_by

VERB, CONFIG, SWEEPS, ANSWER, PAGE = "lr", "config.json", "sweeps.jsonl", "lr.json", "report.html"
UNIT = "token"
KEPT = ("low", "high", "steps")
"""Keys of a question that its sweeps go by: they stay. More seeds, and a refinement, may come later."""


@dataclass
class RateRecord:
    """What is finished: a sweep for each seed with the seconds it took, and the refinement as far as it has come."""

    sweeps: dict[int, Sweep] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    refinement: SearchRecord | None = None


def read_record(folder: Path) -> RateRecord:
    """What ``folder`` holds; :class:`ArtifactError` names a damaged line."""
    record, key = RateRecord(refinement=read_search(folder)), loss_key(UNIT)
    if not (folder / SWEEPS).is_file():
        return record
    for line in read_metrics(folder, SWEEPS):
        try:
            rates, losses, untouched = (tuple(line[name]) for name in ("learning_rates", key, f"untouched_{key}"))
            record.sweeps[line["seed"]] = Sweep(rates, losses, untouched, line["ended"])
            record.seconds[line["seed"]] = float(line["elapsed_s"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"'{folder / SWEEPS}' is damaged: a line lacks what it should hold ({error})",
                "Restore the file, or start anew in another folder.",
            ) from None
    return record


def append_sweep(folder: Path, seed: int, sweep: Sweep, seconds: float) -> None:
    """On the disk when this returns."""
    key = loss_key(UNIT)
    with MetricsLog(folder / SWEEPS) as log:
        log.log(
            kind="sweep", step=len(sweep.losses), seed=seed, learning_rates=sweep.rates, ended=sweep.ended,
            elapsed_s=seconds, **{key: sweep.losses, f"untouched_{key}": sweep.untouched},
        )  # fmt: skip
        log.sync()


def asked_before(folder: Path) -> dict[str, Any]:
    """What ``folder`` was begun with, as the options of the command."""
    saved = begun_by(folder, VERB)
    return {**saved["recipe"], **saved["asked"], "recipe": saved["preset"]}


def recipe_tables(recipe: Recipe) -> dict[str, Any]:
    """``recipe`` for ``config.json``; a vocabulary that nobody asked for stays the tokenizer's to say."""
    tables = recipe.model_dump(mode="json")
    if "vocab_size" not in recipe.model.model_fields_set:
        del tables["model"]["vocab_size"]
    return tables


def refuse_another(folder: Path, recipe: Recipe, asked: RateQuestion) -> None:
    """:class:`ConfigError` if ``folder`` was begun with another recipe, or its sweeps with other rates."""
    saved = begun_by(folder, VERB)
    begun = build(Recipe, saved["recipe"], source=f"'{folder / CONFIG}'")  # with what has come to recipes since
    changed = _changed(recipe_tables(begun), recipe_tables(recipe))
    changed += _changed(*({key: one[key] for key in KEPT} for one in (saved["asked"], asked.model_dump(mode="json"))))
    if changed:
        raise ConfigError(
            f"'{folder}' was begun with another {' and '.join(changed)}",
            "Leave the flag out, or start anew in another folder: the losses could not be compared.",
        )


def ask_again(folder: Path, asked: RateQuestion) -> None:
    """Write what is asked for besides, more seeds or a refinement, into ``config.json``."""
    saved = begun_by(folder, VERB)
    if saved["asked"] != (now := asked.model_dump(mode="json")):
        write_file(folder / CONFIG, sealed_json({**saved, "asked": now}))


def refuse_other_data(folder: Path, now: Mapping[str, Any]) -> None:
    """:class:`ArtifactError` if tokenizer or shards are not those that ``folder`` was begun with."""
    saved = begun_by(folder, VERB)
    for name, what in (("tokenizer", "tokenizer"), ("parents", "shards")):
        if saved[name] != now[name]:
            raise ArtifactError(
                f"'{folder}' was begun with other {what} than its recipe gives now",
                "Restore the text it was made from, or start anew in another folder.",
            )


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    flat, other = flatten(before), flatten(now)
    return [key for key in dict.fromkeys([*flat, *other]) if flat.get(key) != other.get(key)]
