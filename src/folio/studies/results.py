"""What the cells of a study came to: a row each, from their run folders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from folio.config import build
from folio.errors import nearest
from folio.model.config import GPTConfig
from folio.reports.records import RunRecord, number, read_run
from folio.studies.records import StudyFolder
from folio.studies.spec import Study

LOWER = ("nats_per_token", "perplexity", "bits_per_byte", "seconds", "standard_error_nats")
"""Numbers that are better when lower; a score of another measurement says it of itself."""
OF_RUN = ("steps", "tokens", "parameters", "training_flops", "seconds", "tokens_per_s")
OF_TEXT = ("nats_per_token", "standard_error_nats", "bits_per_byte", "perplexity")
WORDS = {"nats_per_token": "nats/token", "bits_per_byte": "bits/byte", "training_flops": "training FLOPs"}


@dataclass(frozen=True)
class CellResult:
    """One cell: where it stands, what became of it, and its ``numbers`` by name (those of :data:`OF_RUN` and scores).

    Cells that were merged share a ``name``. ``curve`` is validation loss by step.
    """

    name: str
    values: Mapping[str, Any]
    seed: int
    status: str
    error: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    better: Mapping[str, str] = field(default_factory=dict)
    curve: tuple[tuple[float, float], ...] = ()

    def score(self, measure: str) -> float:
        """Not a number where it was not measured."""
        return self.numbers.get(measure, math.nan)


@dataclass(frozen=True)
class Results:
    """All cells of a study, and what is compared of them."""

    study: Study
    cells: tuple[CellResult, ...]
    axes: tuple[str, ...]
    """Axes that have more than one value, the others say nothing."""
    measures: tuple[str, ...]
    """Those of the study that any cell has."""
    missing: tuple[str, ...]
    """A line for each measure that is asked for and nowhere found."""

    @property
    def measure(self) -> str:
        """What is compared above all."""
        return self.measures[0] if self.measures else self.study.measures[0]

    @property
    def finished(self) -> list[CellResult]:
        return [cell for cell in self.cells if cell.status == "finished"]

    def lower_is_better(self, measure: str) -> bool:
        said = next((cell.better[measure] for cell in self.cells if measure in cell.better), None)
        return measure in LOWER if said is None else said == "lower"


def read_results(folder: StudyFolder) -> Results:
    """The results of a study so far; :class:`ArtifactError` for a folder that is damaged or none."""
    study, cells = folder.read()
    states = folder.states(list(cells))
    found = []
    for name, facts in cells.items():
        state = states[name]
        record = read_run(folder.run(name)) if state.status in ("finished", "diverged") else None
        numbers, better = _numbers(record, facts, study.scores_at)
        curve = _curve(record) if record is not None else ()
        found += [
            CellResult(name, one["values"], one["seed"], state.status, state.error, numbers, better, curve)
            for one in facts["cells"]
        ]
    names = dict.fromkeys(axis for cell in found for axis in cell.values)
    axes = [axis for axis in names if len({repr(cell.values.get(axis)) for cell in found}) > 1]
    known = dict.fromkeys(key for cell in found if cell.status == "finished" for key in cell.numbers)
    missing = [_missing(name, list(known)) for name in study.measures if name not in known] if known else []
    measures = tuple(name for name in study.measures if name in known)
    return Results(study, tuple(found), tuple(axes), measures, tuple(missing))


def _missing(name: str, known: Sequence[str]) -> str:
    guess = nearest(name, known)
    return f"no cell has measured {name}" + (f"; did you mean {guess}?" if guess else "")


def _numbers(
    record: RunRecord | None, facts: Mapping[str, Any], at: Literal["best", "last"]
) -> tuple[dict[str, float], dict[str, str]]:
    """Numbers by name, and of scores which way is better. Of a run that has not ended only what was known before."""
    numbers = {"parameters": float(facts["parameters"]), "training_flops": float(facts["training_flops"])}
    if record is None:
        return numbers, {}
    from folio.model.accounting import training_flops

    shape = build(GPTConfig, record.config["recipe"]["model"])
    numbers |= {"steps": float(record.steps), "tokens": float(record.tokens_seen), "seconds": record.elapsed_s}
    numbers |= {"tokens_per_s": record.typical("tokens_per_s")}
    numbers["training_flops"] = float(training_flops(shape)) * record.tokens_seen
    validation = record.best_validation if at == "best" else next(iter(reversed(record.validation)), None)
    numbers |= {key: number(validation, key) for key in OF_TEXT} if validation is not None else {}
    better: dict[str, str] = {}
    for line in _measured(record, validation, at):
        for metric, score in line["scores"].items():
            if score["value"] is not None:
                name = f"{line['name']}.{metric}"
                numbers[name], better[name] = float(score["value"]), str(score["better"])
    return {key: value for key, value in numbers.items() if not math.isnan(value)}, better


def _measured(record: RunRecord, validation: Mapping[str, Any] | None, at: str) -> list[Mapping[str, Any]]:
    """The line of each measurement that counts: at the step of the best ``validation`` if so asked, else the last."""
    lines = record.of_kind("evaluation")
    chosen = {line["name"]: line for line in lines}
    if at == "best" and validation is not None:
        chosen |= {line["name"]: line for line in lines if line["step"] == validation["step"]}
    return list(chosen.values())


def _curve(record: RunRecord) -> tuple[tuple[float, float], ...]:
    return tuple((number(line, "step"), number(line, record.loss_key)) for line in record.validation)


def words_of(name: str) -> str:
    """What a number or an axis is called in a table."""
    return WORDS.get(name, name.replace("_", " "))
