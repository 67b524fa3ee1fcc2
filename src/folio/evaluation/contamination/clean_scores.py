"""Scores of an evaluation on the items a training text holds, on those it does not, and how far they are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from folio.errors import ArtifactError, DataError
from folio.evaluation.estimates import Estimate, exponential, mean, proportion, ratio
from folio.evaluation.results import Evaluation, Item, Score


@dataclass(frozen=True)
class CleanScore:
    """One score on all items, on the clean and on the contaminated ones, and contaminated minus clean.

    None where there are no such items. Items too short to tell are among all and in neither part.
    """

    model: str
    score: Score
    all: Estimate
    clean: Estimate | None
    contaminated: Estimate | None
    difference: Estimate | None


def clean_scores(evaluation: Evaluation, task: str, sha256: str, states: Mapping[str, str]) -> list[CleanScore]:
    """Every score of ``task`` in ``evaluation``, by the ``states`` of its items ("clean", "contaminated", others).

    ``sha256`` is that of the benchmark's file. :class:`ArtifactError` if the evaluation has no such task or was made
    with another file, :class:`DataError` for an item that the file does not have.
    """
    found = []
    for measurement in evaluation.measurements.values():
        scores = [score for score in measurement.scores if score.task == task]
        if not scores:
            continue
        theirs = measurement.facts.get("sha256")
        if theirs != sha256:
            what = f"another file ({theirs[:12]}...)" if isinstance(theirs, str) else "a file that it does not name"
            raise ArtifactError(
                f"'{evaluation.path}' measured {measurement.name} on {what}; this one's sha256 is {sha256[:12]}...",
                f"Give the file that was measured, or evaluate again: --tasks {task} --data {task}=FILE.",
            )
        for item in measurement.items:
            if str(item.get("id")) not in states:
                raise DataError(
                    f"'{evaluation.path}': {measurement.name} has the item '{item.get('id')}', which the file of "
                    f"'{task}' has not",
                    "Give the file that was measured.",
                )
        parts = {
            state: [item for item in measurement.items if states[str(item["id"])] == state]
            for state in ("clean", "contaminated")
        }
        found += [_of_parts(evaluation.model, score, measurement.items, parts) for score in scores]
    if not found:
        has = ", ".join(sorted({score.task for one in evaluation.measurements.values() for score in one.scores}))
        raise ArtifactError(
            f"'{evaluation.path}' has no scores of '{task}', only of {has or 'nothing'}",
            f"Evaluate with --tasks {task} first.",
        )
    return found


def difference(minuend: Estimate, subtrahend: Estimate) -> Estimate:
    """Of two independent estimates, its interval from theirs by squares added (Newcombe 1998, method 10).

    Between proportions with Wilson intervals that is Newcombe's; in general it is MOVER (Zou & Donner 2008).
    """
    value = minuend.value - subtrahend.value
    below = math.hypot(minuend.value - minuend.low, subtrahend.high - subtrahend.value)
    above = math.hypot(minuend.high - minuend.value, subtrahend.value - subtrahend.low)
    error = math.hypot(minuend.standard_error, subtrahend.standard_error)
    return Estimate(value, minuend.n + subtrahend.n, error, value - below, value + above)


def _of_parts(model: str, score: Score, items: Sequence[Item], parts: Mapping[str, Sequence[Item]]) -> CleanScore:
    clean, contaminated = (_estimate(score, part) if part else None for part in (parts["clean"], parts["contaminated"]))
    apart = difference(contaminated, clean) if clean and contaminated else None
    return CleanScore(model, score, _estimate(score, items), clean, contaminated, apart)


def _estimate(score: Score, items: Sequence[Item]) -> Estimate:
    over: list[Any] = [item[score.numerator] for item in items]
    if score.denominator is not None:
        estimate = ratio(over, [item[score.denominator] for item in items])
    else:
        estimate = proportion(over) if set(over) <= {0, 1} else mean(over)
    return exponential(estimate) if score.transform == "exp" else estimate
