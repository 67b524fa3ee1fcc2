"""What a study's contrasts say, in sentences: what the data support, with how much, and no more."""

from __future__ import annotations

import math
from collections.abc import Sequence

from folio.evaluation.estimates import Estimate
from folio.reports.scales import short_number
from folio.reports.study.tables import p_text
from folio.studies.findings.answers import Change, Contrast
from folio.studies.findings.judged import OVER_SEEDS
from folio.studies.findings.results import words_of
from folio.studies.findings.statistics import Comparison
from folio.studies.grid.axes import value_text

MOST_VALUES = 6


def end_words(one: Contrast, measure: str) -> str:
    """What an other is at the end: better, worse, or that it cannot be told."""
    end, reference = one.ends.get(measure), value_text(one.reference)
    where = f" at {words_of(one.by)} {value_text(one.value)}" if one.by is not None else ""
    if end is None:
        if one.same_runs:
            return f"{_subject(one)} and {reference} are the same runs{where}: there is nothing to compare."
        return f"Nothing can be said yet of {words_of(one.axis)} {value_text(one.other)} against {reference}{where}."
    wins = f"better in {end.wins} of {end.pairs} pairs"
    if end.verdict != "cannot tell":
        return (
            f"{_subject(one)} comes out {end.verdict} than {reference}{where} in {words_of(measure)}: "
            f"{difference_words(end)}, {wins}."
        )
    if _is_equal(end):
        return f"{_subject(one)} and {reference} are equal in {words_of(measure)}{where}, in every pair."
    if math.isnan(end.p):
        return (
            f"{_subject(one)} against {reference}{where}: {words_of(measure)} differs by "
            f"{short_number(end.estimate.value)} in the only pair, and nothing says how much of it is chance."
        )
    alone = end.estimate.low > 0 or end.estimate.high < 0
    caution = " The interval by itself leaves out zero; corrected for the number of differences that is not enough."
    return (
        f"Whether {words_of(one.axis)} {value_text(one.other)} is better or worse than {reference}{where} in "
        f"{words_of(measure)} cannot be told: the difference is {with_interval(end.estimate, p_words(end))}, {wins}."
        + (caution if alone else "")
    )


def difference_words(one: Comparison) -> str:
    """``lower by 0.021 (95 % 0.012 to 0.030, p = 0.004)``."""
    side = "lower" if one.estimate.value < 0 else "higher"
    return f"{side} by {with_interval(upright(one.estimate), p_words(one))}"


def other_measures_words(one: Contrast, measures: Sequence[str]) -> str:
    """The same for more measures, in few words."""
    return " ".join(f"In {words_of(name)}: {_verdict_words(one.ends[name])}." for name in measures if name in one.ends)


def evidence_words(one: Contrast, measure: str, axes: Sequence[str]) -> str:
    """What is behind an end: combinations of the other ``axes``, seeds, and what takes no part."""
    end = one.ends.get(measure)
    if end is None:
        return ""
    seeds = (
        f"{end.estimate.n} seeds"
        if end.source == OVER_SEEDS
        else "one seed"
        if len(one.seeds) == 1
        else "seeds that differ"
    )
    of = f" of {_listed([words_of(axis) for axis in axes])}" if axes else ""
    combinations = f"{end.combinations} combinations{of}" if end.combinations > 1 else "one combination"
    judged = "differences are averaged over combinations and judged over seeds (Student's t)"
    if end.source != OVER_SEEDS:
        judged = "differences are judged over combinations, so that chance between seeds is in no interval"
    parts = [f"Behind it are {end.pairs} pairs of cells: {combinations} with {seeds}; {judged}."]
    if end.pairs == 1:
        parts = ["Behind it is one pair of cells."]
    if one.incomplete:
        counted = "One combination takes" if one.incomplete == 1 else f"{one.incomplete} combinations take"
        parts.append(f"{counted} no part, for want of a seed on one of the sides.")
    for value, count in zip((one.reference, one.other), one.diverged, strict=True):
        if count:
            cells = "One cell" if count == 1 else f"{count} cells"
            parts.append(f"{cells} with {words_of(one.axis)} {value_text(value)} diverged, and no difference holds it.")
    return " ".join(parts)


def by_words(found: Sequence[Contrast], measure: str, changes: Sequence[Change]) -> str:
    """Where an other is better or worse, by the values of one axis, and whether that changes along it."""
    there = [(value_text(one.value), one.ends[measure]) for one in found if measure in one.ends]
    if not there:
        return ""
    if len(there) <= MOST_VALUES:
        parts = [f"at {value} {_verdict_words(end)}" for value, end in there]
    else:
        verdicts = dict.fromkeys(end.verdict for _, end in there)
        by_verdict = {verdict: [value for value, end in there if end.verdict == verdict] for verdict in verdicts}
        parts = [f"{_verdict(verdict)} at {', '.join(values)}" for verdict, values in by_verdict.items()]
    said = [f"By {words_of(str(found[0].by))}: {'; '.join(parts)}."]
    return " ".join(said + [change_words(one, found[0]) for one in changes])


def change_words(one: Change, of: Contrast) -> str:
    """Whether the difference is another at the last value of an axis than at the first."""
    end = one.comparison
    first, last = (value_text(value) for value in (end.first, end.second))
    towards = value_text(of.other if end.improves else of.reference)
    if end.verdict != "cannot tell":
        return (
            f"From {words_of(end.axis)} {first} to {last} the difference moves in favour of {towards}, by "
            f"{with_interval(upright(end.estimate), p_words(end))}."
        )
    if math.isnan(end.p):
        return ""
    return (
        f"That the difference is another at {words_of(end.axis)} {last} than at {first} cannot be told: it changes by "
        f"{with_interval(end.estimate, p_words(end))}."
    )


def _subject(one: Contrast) -> str:
    words = f"{words_of(one.axis)} {value_text(one.other)}"
    return words[:1].upper() + words[1:]


def _verdict(verdict: str) -> str:
    return "cannot be told" if verdict == "cannot tell" else verdict


def _is_equal(end: Comparison) -> bool:
    return end.estimate.value == 0 and not end.estimate.standard_error > 0


def _verdict_words(end: Comparison) -> str:
    if _is_equal(end):
        return "equal in every pair"
    if end.verdict == "cannot tell":
        p = "" if math.isnan(end.p) else p_words(end)
        return f"cannot be told ({with_interval(end.estimate, p, brackets=False)})"
    side = "lower" if end.estimate.value < 0 else "higher"
    return f"{end.verdict} ({side} by {with_interval(upright(end.estimate), p_words(end), brackets=False)})"


def p_words(one: Comparison) -> str:
    return f"p {text}" if (text := p_text(one.adjusted)).startswith("<") else f"p = {text}"


def upright(estimate: Estimate) -> Estimate:
    """The same above zero."""
    if estimate.value >= 0:
        return estimate
    return Estimate(-estimate.value, estimate.n, estimate.standard_error, -estimate.high, -estimate.low)


def with_interval(estimate: Estimate, p: str, brackets: bool = True) -> str:
    """An estimate, its interval and p, with as many digits as the interval is wide."""
    half = (estimate.high - estimate.low) / 2
    if not math.isfinite(half):
        return short_number(estimate.value)
    scale = half or abs(estimate.value) or 1.0
    decimals = min(9, max(0, 1 - math.floor(math.log10(scale))))
    value, low, high = (f"{number:,.{decimals}f}" for number in (estimate.value, estimate.low, estimate.high))
    behind = f"95 % {low} to {high}" + (f", {p}" if p else "")
    return f"{value} ({behind})" if brackets else f"{value}, {behind}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
