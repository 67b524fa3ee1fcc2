"""What the cells of a study came to: a row each, from their run folders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from folio.errors import nearest
from folio.reports.records import read_run
from folio.studies.findings.numbers import (
    LOG_PROBABILITY,
    LOWER,
    ORACLE,
    SPELLED,
    Curve,
    Z,
    curves_of,
    numbers_of,
    read_oracle,
)
from folio.studies.findings.numbers import OF_RUN as OF_RUN
from folio.studies.grid.spec import Study
from folio.studies.running.records import StudyFolder

WORDS = {
    "nats_per_token": "nats/token",
    "bits_per_byte": "bits/byte",
    SPELLED: "bits/byte, spelled",
    "standard_error_nats": "standard error, nats/token",
    "plateau_nats_per_token": "training nats/token, last tenth",
    "tokens_per_s": "tokens/s",
    "seconds_per_step": "s/step",
    "word2vec_seconds": "word2vec, s",
    "seconds_in_all": "seconds with word2vec",
    "movement_p95": "rows moved, 95th percentile of |now − start| / |start|",
    "trained_parameters": "trained parameters",
    "training_flops": "training FLOPs",
    LOG_PROBABILITY: "oracle, ln p/token",
    Z: "oracle, mean z",
}


@dataclass(frozen=True)
class CellResult:
    """One cell: where it stands, what became of it, and its ``numbers`` by name.

    These are :data:`folio.studies.findings.numbers.OF_CELL` and scores. Cells that were merged share a ``name``.
    ``curve`` is validation loss by step, ``curves`` other numbers of the validations, by name.
    """

    name: str
    values: Mapping[str, Any]
    seed: int
    status: str
    error: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    better: Mapping[str, str] = field(default_factory=dict)
    curve: Curve = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    tokenizer: str = ""
    """Its fingerprint: means over tokens compare where it is the same."""

    def curve_of(self, measure: str) -> Curve:
        """A number of the validations by step; nothing where they do not have it."""
        return self.curve if measure == "nats_per_token" else self.curves.get(measure, ())

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
    """A line for each measure that is asked for and nowhere found, and for what is damaged."""
    reference: Mapping[str, float] = field(default_factory=dict)
    """Numbers of text that no cell wrote: what the oracle makes of the real one."""

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
    judged = read_oracle(folder.path / ORACLE)
    found = []
    for name, facts in cells.items():
        state = states[name]
        record = read_run(folder.run(name)) if state.status in ("finished", "diverged") else None
        numbers, better = numbers_of(record, facts, study.scores_at)
        if record is not None and name in judged.cells:
            numbers |= judged.cells[name]
            better |= dict.fromkeys(judged.cells[name], "higher")
        curves = dict(curves_of(record)) if record is not None else {}
        curve = curves.pop("nats_per_token", ())
        tokenizer = str(record.config.get("tokenizer", "")) if record is not None else ""
        one = CellResult(name, {}, 0, state.status, state.error, numbers, better, curve, curves, tokenizer)
        found += [replace(one, values=place["values"], seed=place["seed"]) for place in facts["cells"]]
    names = dict.fromkeys(axis for cell in found for axis in cell.values)
    axes = [axis for axis in names if len({repr(cell.values.get(axis)) for cell in found}) > 1]
    known = dict.fromkeys(key for cell in found if cell.status == "finished" for key in cell.numbers)
    missing = [missing_words(name, list(known)) for name in study.measures if name not in known] if known else []
    measures = tuple(name for name in study.measures if name in known)
    return Results(study, tuple(found), tuple(axes), measures, (*missing, *judged.damaged), judged.reference)


def missing_words(name: str, known: Sequence[str]) -> str:
    """What is said of a number that no cell has."""
    guess = nearest(name, known)
    return f"no cell has measured {name}" + (f"; did you mean {guess}?" if guess else "")


def words_of(name: str) -> str:
    """What a number or an axis is called in a table."""
    return WORDS.get(name, name.replace("_", " "))
