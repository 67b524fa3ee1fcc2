"""What a study's contrasts say of the way of training, in sentences: who is ahead when, and by how many steps."""

from __future__ import annotations

import math
from typing import Any

from folio.evaluation.estimates import Estimate
from folio.reports.study.answer_words import difference_words, p_words, upright, with_interval
from folio.studies.findings.answers import Contrast
from folio.studies.findings.leads import HeadStart, Lead
from folio.studies.findings.results import words_of
from folio.studies.grid.axes import value_text

MOST_STRETCHES = 3
START = "word2vec"
"""What a start that takes time is called."""


def early_words(one: Contrast, loss: str) -> str:
    """Whether an other is ahead early in training."""
    if one.early is None or one.lead is None or math.isnan(one.early.p):
        return ""
    when = f"Early in training, to step {one.lead.early_until:,.0f} of {one.lead.steps[-1]:,.0f},"
    if one.early.verdict == "cannot tell":
        return (
            f"{when} it cannot be told which is ahead: mean {words_of(loss)} differs by "
            f"{with_interval(one.early.estimate, p_words(one.early))}."
        )
    ahead = "ahead" if one.early.verdict == "better" else "behind"
    return f"{when} it is {ahead}: {words_of(loss)} is on average {difference_words(one.early)}."


def stretch_words(lead: Lead, loss: str) -> str:
    """From which step to which all intervals lie on one side; nothing where there are no intervals."""
    if math.isnan(lead.differences[-1].low):
        return ""
    if not lead.stretches:
        return f"At no single validation does the 95 % interval of the difference in {words_of(loss)} leave out zero."
    shown = lead.stretches[:MOST_STRETCHES]
    parts = []
    for one in shown:
        side = "lower" if one.sign < 0 else "higher"
        until = "the end" if one.last == lead.steps[-1] else f"step {one.last:,.0f}"
        here = f"at step {one.first:,.0f}" if one.first == one.last else f"from step {one.first:,.0f} to {until}"
        parts.append(f"{side} {here}")
    more = len(lead.stretches) - len(shown)
    parts += [f"and {more} more such stretches"] * bool(more)
    return f"Validation by validation, each by its own 95 % interval, its {words_of(loss)} is {', '.join(parts)}."


def head_start_words(lead: Lead, reference: Any) -> str:
    """How many steps sooner an other comes to the reference's loss, and what is left of them when its start is paid."""
    parts = [_head_start(one, value_text(reference)) for one in lead.head_starts]
    paid = [one for one in lead.head_starts if one.paid is not None and one.paid_share is not None]
    if paid and (cost := paid[0].cost) is not None:
        left = [f"{_sooner(one.paid, one.paid_share)} {_when(one)}" for one in paid if one.paid and one.paid_share]
        parts.append(
            f"Its start by {START} takes as long as {_count(cost.value)} steps of {value_text(reference)}; with that "
            f"paid it is there {' and '.join(left)}."
        )
    return " ".join(parts)


def _head_start(one: HeadStart, reference: str) -> str:
    goal = f"the loss that {reference} has {_when(one)}"
    if one.steps is not None and one.share is not None:
        return f"It comes to {goal} {_sooner(one.steps, one.share)}."
    if one.missed == one.pairs:
        return f"It never comes to {goal}."
    return f"In {one.missed} of {one.pairs} pairs it never comes to {goal}."


def _when(one: HeadStart) -> str:
    return "at the end" if one.goal == 1 else "half-way" if one.goal == 0.5 else f"after {one.goal:.0%} of training"


def _sooner(steps: Estimate, share: Estimate) -> str:
    """``120 steps sooner (95 % 80 to 160; 12 % of the training)``, or that it cannot be told."""
    side = "sooner" if steps.value >= 0 else "later"
    size = upright(steps)
    of_all = f"{abs(share.value):.0%} of the training".replace("%", " %")
    if math.isnan(steps.low):
        return f"{_count(size.value)} steps {side} ({of_all})"
    interval = f"95 % {_count(size.low)} to {_count(size.high)}"
    unclear = ", which cannot be told from none" if steps.low <= 0 <= steps.high else ""
    return f"{_count(size.value)} steps {side}{unclear} ({interval}; {of_all})"


def _count(steps: float) -> str:
    return f"{steps:,.0f}" if abs(steps) >= 10 else f"{steps:.1f}"
