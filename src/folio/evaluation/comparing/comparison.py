"""Evaluations of several models side by side: which items pair up, and what each pair of models differs by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from folio.errors import UserError
from folio.evaluation.comparing.paired import Difference, paired_accuracies, paired_ratios
from folio.evaluation.comparing.pairing import Incomparable, Paired, pair, refuse_unlike
from folio.evaluation.comparing.seeds import SeedSpread, paired_over_seeds, pooled, seed_spread
from folio.evaluation.comparing.verdict import LEVEL, Verdict, judge
from folio.evaluation.results import Evaluation, Score
from folio.evaluation.significance import holm

SPELLED = {"bits_per_byte_spelled": "bits_per_byte"}
"""Where a model has a score by the first name, <unk> stands for bytes, and only that compares with other models."""


@dataclass(frozen=True)
class Arm:
    """What is compared: one evaluated model, or several that differ in nothing but their seed."""

    name: str
    evaluations: tuple[Evaluation, ...]


@dataclass(frozen=True)
class Comparison:
    """One score of two arms on the items that both have: ``difference`` is that of ``second`` minus ``first``."""

    measurement: str
    score: Score
    """The first arm's score, for its task, convention, metric, unit and direction."""
    first: str
    second: str
    first_value: float
    second_value: float
    only_first: int
    only_second: int
    unequal: int
    accuracy: bool
    difference: Difference
    p_adjusted: float
    tests: int
    """How many comparisons of this score p is corrected for."""
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        names = (
            "measurement",
            "first",
            "second",
            "first_value",
            "second_value",
            "only_first",
            "only_second",
            "unequal",
        )
        score = {key: getattr(self.score, key) for key in ("task", "convention", "metric", "unit", "better")}
        difference = {("difference" if key == "value" else key): x for key, x in asdict(self.difference).items()}
        return {
            **{name: getattr(self, name) for name in names},
            **score,
            **difference,
            "p_adjusted": self.p_adjusted,
            "tests": self.tests,
            "verdict": asdict(self.verdict),
        }


def compare_arms(arms: Sequence[Arm], *, all_pairs: bool = False, seed: int = 0) -> tuple[list[Comparison], list[str]]:
    """Every score that two arms share, each later arm against the first (or all pairs), and what a reader must know.

    p-values are corrected within each score over its pairs (Holm). :class:`UserError` where two arms share no
    measurement, have one of different sources or conventions, or share no item of it.
    """
    pairs = list(combinations(arms, 2)) if all_pairs else [(arms[0], other) for other in arms[1:]]
    found: dict[tuple[str, str], list[Comparison]] = {}
    notes: dict[str, None] = {}
    for first, second in pairs:
        shared = [name for name in _names(first) if name in _names(second)]
        if not shared:
            raise UserError(
                f"'{first.name}' and '{second.name}' share no measurement: {_listed(first)} against {_listed(second)}",
                "Evaluate both on the same tasks and conventions: folio evaluate MODEL MODEL --tasks ...",
            )
        for arm, other in ((first, second), (second, first)):
            for name in _names(arm):
                if name not in shared:
                    notes[f"{name} was measured for '{arm.name}' and not for '{other.name}': not compared."] = None
        for name in shared:
            compared, more = _compare(name, first, second, arms, seed)
            notes |= dict.fromkeys(more)
            for one in compared:
                found.setdefault((name, one.score.metric), []).append(one)
    if not found:
        raise UserError(
            "no score of the two can be compared: " + " ".join(notes), "Evaluate both on bits per byte or an accuracy."
        )
    precisions = {str(one.config["precision"]) for arm in arms for one in arm.evaluations if "precision" in one.config}
    if len(precisions) > 1:
        notes[f"The models were evaluated in different precisions: {', '.join(sorted(precisions))}."] = None
    return [one for group in found.values() for one in _corrected(group)], [*notes, seeds_counted(arms)]


def seeds_counted(arms: Sequence[Arm]) -> str:
    """A sentence on whether the seeds of training are in the intervals."""
    counts = [len(arm.evaluations) for arm in arms]
    if max(counts) == 1:
        return (
            "Each model is one run: what another seed of training would change is not counted "
            "(train several and compare with --seeds)."
        )
    listed = ", ".join(f"'{arm.name}' {count}" for arm, count in zip(arms, counts, strict=True))
    single = " One of a single seed is taken to vary with the seed as the others do." * (1 in counts)
    return f"Seeds of training are counted: {listed}.{single}"


def _corrected(group: Sequence[Comparison]) -> list[Comparison]:
    steps = holm([one.difference.p for one in group], LEVEL)
    tests = sum(not math.isnan(one.difference.p) for one in group)
    return [
        replace(
            one,
            p_adjusted=p,
            tests=tests,
            verdict=judge(one.difference, p, level, better=one.score.better, points=one.accuracy),
        )
        for one, (p, level) in zip(group, steps, strict=True)
    ]


def _compare(name: str, first: Arm, second: Arm, arms: Sequence[Arm], seed: int) -> tuple[list[Comparison], list[str]]:
    """The scores of one measurement that both arms have, not corrected yet, and notes on those left out."""
    ours, theirs = ([one.measurements[name] for one in arm.evaluations] for arm in (first, second))
    refuse_unlike([*ours, *theirs], [one.model for arm in (first, second) for one in arm.evaluations])
    compared, notes = [], []
    scores = {score.metric: score for one in (*ours, *theirs) for score in one.scores}
    for metric, score in scores.items():
        if metric in (SPELLED.get(other) for other in scores):
            continue
        if score.transform and _has_plain(score, scores.values()):
            continue  # perplexity says nothing that nats per token do not
        read = {other.convention for one in (*ours, *theirs) for other in one.scores if other.metric == metric}
        if len(read) > 1:
            notes.append(f"{name} {metric}: the contexts differ: {', '.join(sorted(read))}.")
        try:
            paired = pair(score, ours, theirs, (first.name, second.name))
        except Incomparable as reason:
            notes.append(str(reason))
            continue
        accuracy = score.denominator is None and all(
            np.isin(side, (0.0, 1.0)).all() for side in (paired.first, paired.second)
        )
        difference = _difference(paired, accuracy, _lent(score, name, first, arms), seed)
        compared.append(
            Comparison(
                measurement=name,
                score=replace(score, metric=f"log {score.metric}") if score.transform else score,
                first=first.name,
                second=second.name,
                first_value=paired.values[0],
                second_value=paired.values[1],
                only_first=paired.only_first,
                only_second=paired.only_second,
                unequal=paired.unequal,
                accuracy=accuracy,
                difference=difference,
                p_adjusted=difference.p,
                tests=1,
                verdict=judge(difference, difference.p, LEVEL, better=score.better, points=accuracy),
            )
        )
    return compared, notes


def _lent(score: Score, name: str, first: Arm, arms: Sequence[Arm]) -> SeedSpread | None:
    """How seeds vary in all arms that have several, for those that have one; None if there is no such arm."""
    spreads = []
    for arm in arms:
        if len(arm.evaluations) > 1 and name in _names(arm):
            several = [one.measurements[name] for one in arm.evaluations]
            with suppress(Incomparable, UserError):
                found = pair(score, [first.evaluations[0].measurements[name]], several, (first.name, arm.name))
                spreads.append(seed_spread(found.second, found.denominators))
    return pooled(spreads) if spreads else None


def _difference(paired: Paired, accuracy: bool, lent: SeedSpread | None, seed: int) -> Difference:
    """By the way that suits what was measured."""
    if lent is not None:
        return paired_over_seeds(paired.first, paired.second, paired.denominators, lent)
    if accuracy:
        return paired_accuracies(paired.first[0], paired.second[0])
    return paired_ratios(paired.first[0], paired.second[0], paired.denominators, seed=seed)


def _has_plain(score: Score, scores: Iterable[Score]) -> bool:
    """Whether another score is the same ratio without the transform."""
    return any(
        not other.transform and (other.numerator, other.denominator) == (score.numerator, score.denominator)
        for other in scores
    )


def _names(arm: Arm) -> list[str]:
    """The measurements that every evaluation of the arm has."""
    first, *others = arm.evaluations
    return [name for name in first.measurements if all(name in other.measurements for other in others)]


def _listed(arm: Arm) -> str:
    return ", ".join(_names(arm)) or "nothing"
