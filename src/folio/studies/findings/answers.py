"""What a study's contrasts come to: differences at the end and while training, over all and told apart by axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from folio.studies.findings.contrasts import is_number, others_of, same, values_of
from folio.studies.findings.judged import judged
from folio.studies.findings.leads import Lead, Sides, lead_of
from folio.studies.findings.numbers import SPELLED
from folio.studies.findings.results import CellResult, Results
from folio.studies.findings.statistics import (
    CellPair,
    Comparison,
    Group,
    compared,
    comparison,
    corrected,
    paired,
    told_apart,
    tuned_groups,
)
from folio.studies.grid.asked import ContrastTable
from folio.studies.grid.axes import GRID

NATS = "nats_per_token"
TOKENWISE = (NATS, "perplexity", "standard_error_nats", "plateau_nats_per_token")
"""Means over tokens: they compare sides that have the same tokenizer alone."""
START_S, STEP_S = "word2vec_seconds", "seconds_per_step"


@dataclass(frozen=True)
class Contrast:
    """One other against the reference: over all, or at one ``value`` of the axis ``by``.

    ``ends`` are the differences at the end by measure and ``early`` is that of the mean loss early in training, other
    minus reference, p corrected within their families. ``incomplete`` combinations are in the study and take no part,
    since a seed of them is not finished on both sides; ``diverged`` cells are those of the reference and of the other.
    ``same_runs`` are places where both are one run, merged: there is nothing to compare.
    """

    axis: str
    reference: Any
    other: Any
    by: str | None
    value: Any
    ends: Mapping[str, Comparison]
    early: Comparison | None
    lead: Lead | None
    seeds: tuple[int, ...]
    incomplete: int
    diverged: tuple[int, int]
    same_runs: int


@dataclass(frozen=True)
class Change:
    """How an other's difference at the end changes from the first to the second value of an axis, in ``measure``."""

    other: Any
    measure: str
    comparison: Comparison


@dataclass(frozen=True)
class Answer:
    """What one table comes to, ``over`` which other axes. ``loss`` is the measure that is followed while training.

    ``left_out`` are measures that say nothing here, since the sides have other tokens.
    """

    table: ContrastTable
    over: tuple[str, ...]
    measures: tuple[str, ...]
    loss: str
    contrasts: tuple[Contrast, ...]
    changes: tuple[Change, ...]
    left_out: tuple[str, ...]

    @property
    def axes(self) -> list[str]:
        """By which it is told apart, as far as they have several values."""
        return list(dict.fromkeys(one.by for one in self.contrasts if one.by is not None))

    def at(self, by: str | None) -> list[Contrast]:
        """Over all, or at each value of an axis."""
        return [one for one in self.contrasts if one.by == by]


def answers_of(results: Results, groups: Sequence[Group]) -> list[Answer]:
    """What each of the study's contrasts comes to so far.

    Of tuned axes each side has its best value, by the first measure.
    """
    kept = tuned_groups(groups, results.study.tuned, results.measure, results.lower_is_better(results.measure))
    return [_Asked(results, kept, table).answer() for table in results.study.contrasts]


class _Asked:
    """One table of a study, and the combinations that have its axis."""

    def __init__(self, results: Results, groups: Sequence[Group], table: ContrastTable) -> None:
        self.results, self.table, self.tuned = results, table, results.study.tuned
        self.groups = [group for group in groups if group.values.get(table.axis) is not None]
        places = [group.values for group in self.groups]
        there = values_of(table.axis, places)
        self.reference = next((value for value in there if same(value, table.reference)), table.reference)
        self.others = [next(v for v in there if same(v, other)) for other in others_of(table, places, self.tuned)]
        cells = [
            pair for other in self.others for one in self._paired(self.groups, other).values() for pair in one.values()
        ]
        alike = all(a.tokenizer == b.tokenizer for a, b in cells)
        self.measures = tuple(
            name for name in results.measures if alike or not (name in TOKENWISE or self._flatters(name))
        )
        self.loss = next((one for one in self.measures if any(len(a.curve_of(one)) > 1 for a, _ in cells)), "")

    def _flatters(self, measure: str) -> bool:
        """Whether unknown words cost nothing in it, and another measure says what they cost."""
        return measure == "bits_per_byte" and SPELLED in self.results.measures

    def answer(self) -> Answer:
        scopes: list[tuple[str | None, Any]] = [(None, None)]
        for by in self.table.by:
            values = values_of(by, [group.values for group in self.groups])
            scopes += [(by, value) for value in values if len(values) > 1]
        found = [self._contrast(other, by, value) for by, value in scopes for other in self.others]
        ends = iter(_in_families([((one.by, name), end) for one in found for name, end in one.ends.items()]))
        found = [replace(one, ends={name: next(ends) for name in one.ends}) for one in found]
        early = iter(_in_families([(one.by, one.early) for one in found if one.early is not None]))
        found = [one if one.early is None else replace(one, early=next(early)) for one in found]
        changes = [
            change
            for by in self.table.by
            for measure in self.measures
            for other in self.others
            if (change := self._change(other, by, measure)) is not None
        ]
        adjusted = _in_families([((one.comparison.axis, one.measure), one.comparison) for one in changes])
        places = [group.values for group in self.groups]
        others = [name for name in self.results.axes if name not in (self.table.axis, *self.tuned)]
        return Answer(
            self.table,
            tuple(name for name in others if len(values_of(name, places)) > 1),
            self.measures,
            self.loss,
            tuple(found),
            tuple(replace(one, comparison=new) for one, new in zip(changes, adjusted, strict=True)),
            tuple(name for name in self.results.measures if name not in self.measures),
        )

    def _paired(
        self, groups: Sequence[Group], other: Any, besides: Sequence[str] = ()
    ) -> dict[tuple[str, ...], dict[int, CellPair]]:
        return paired(groups, self.table.axis, self.reference, other, [*self.tuned, *besides])

    def _at(self, by: str | None, value: Any) -> list[Group]:
        """Those with a value of an axis; between grids one that does not have the axis is beside each of its values."""
        wanted = {repr(value)} | ({repr(None)} if self.table.axis == GRID else set())
        return [one for one in self.groups if by is None or repr(one.values.get(by)) in wanted]

    def _contrast(self, other: Any, by: str | None, value: Any) -> Contrast:
        axis, groups = self.table.axis, self._at(by, value)
        places = list(self._paired(groups, other).values())
        pairs = told_apart(places)
        ends = {name: self._compared(pairs, other, name) for name in self.measures}
        paid = any(math.isfinite(cell.score(START_S)) for one in pairs for pair in one.values() for cell in pair)
        sides = [{seed: self._sides(*pair, paid) for seed, pair in one.items()} for one in pairs]
        lead = lead_of(sides) if self.loss else None
        early = None
        if lead is not None and lead.early is not None:
            lower = self.results.lower_is_better(self.loss)
            early = comparison(axis, self.reference, other, lead.early, lower)
        main = next((end for end in ends.values() if end is not None), None)
        merged = sum(bool(one) and all(a.name == b.name for a, b in one.values()) for one in places)
        empty = sum(not one for one in places)
        return Contrast(
            axis,
            self.reference,
            other,
            by,
            value,
            {name: end for name, end in ends.items() if end is not None},
            early,
            lead,
            tuple(sorted({seed for one in pairs for seed in one})),
            empty + len(pairs) - (main.combinations if main is not None else 0),
            (self._diverged(groups, self.reference), self._diverged(groups, other)),
            merged,
        )

    def _compared(self, pairs: Sequence[Mapping[int, CellPair]], other: Any, measure: str) -> Comparison | None:
        lower = self.results.lower_is_better(measure)
        return compared(pairs, self.table.axis, self.reference, other, lambda cell: cell.score(measure), lower)

    def _sides(self, reference: CellResult, other: CellResult, paid: bool) -> Sides:
        """With what the other's start cost more than the reference's, by the latter's time for a step.

        ``paid``: whether any start cost something. Then one of which no cost is known was free.
        """
        spent, saved = (cell.numbers.get(START_S, 0.0) for cell in (other, reference))
        more = (spent - saved) / reference.score(STEP_S) if paid else math.nan
        return Sides(reference.curve_of(self.loss), other.curve_of(self.loss), more)

    def _diverged(self, groups: Sequence[Group], value: Any) -> int:
        return sum(one.diverged for one in groups if repr(one.values[self.table.axis]) == repr(value))

    def _change(self, other: Any, by: str, measure: str) -> Change | None:
        """Of axes of numbers, and of those with two values: of others it is not plain what from and to what."""
        values = values_of(by, [group.values for group in self.groups])
        if len(values) < 2 or not (len(values) == 2 or all(map(is_number, values))):
            return None
        first, last = (self._paired(self._at(by, value), other, [by]) for value in (values[0], values[-1]))

        def difference(pair: CellPair) -> float:
            return pair[1].score(measure) - pair[0].score(measure)

        found = judged(
            [
                {
                    seed: difference(last[place][seed]) - difference(pair)
                    for seed, pair in one.items()
                    if seed in last[place]
                }
                for place, one in first.items()
                if place in last
            ]
        )
        if found is None:
            return None
        lower = self.results.lower_is_better(measure)
        return Change(other, measure, comparison(by, values[0], values[-1], found, lower))


def _in_families(keyed: Sequence[tuple[Any, Comparison]]) -> list[Comparison]:
    """The same in order, p corrected among those of one key."""
    found = [one for _, one in keyed]
    for key in {key for key, _ in keyed}:
        places = [place for place, (other, _) in enumerate(keyed) if other == key]
        for place, one in zip(places, corrected([found[place] for place in places]), strict=True):
            found[place] = one
    return found
