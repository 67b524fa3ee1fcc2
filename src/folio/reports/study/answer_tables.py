"""A study's contrasts as tables, and as data for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from folio.evaluation.estimates import Estimate
from folio.reports.page import Cell
from folio.reports.study.tables import interval_text, p_text
from folio.reports.tables import Table
from folio.studies.findings.answers import Answer, Contrast
from folio.studies.findings.leads import HeadStart
from folio.studies.findings.results import words_of
from folio.studies.findings.statistics import Comparison
from folio.studies.grid.axes import value_text


def contrast_table(answers: Sequence[Answer]) -> Table:
    """A row for each difference at the end: every other, over all and at each value of an axis, in every measure."""
    header = ["axis", "reference", "other", "at", "measure", "difference", "95 % interval", "better in", "p (Holm)"]
    header += ["is", "source"]
    rows: list[list[Cell]] = [
        [
            words_of(one.axis),
            value_text(one.reference),
            value_text(one.other),
            place_of_contrast(one),
            words_of(measure),
            end.estimate.value,
            interval_text(end.estimate),
            f"{end.wins} of {end.pairs}",
            p_text(end.adjusted),
            end.verdict,
            f"{end.source}, n = {end.estimate.n}",
        ]
        for answer in answers
        for one in answer.contrasts
        for measure, end in one.ends.items()
    ]
    return header, rows


def training_table(answer: Answer) -> Table:
    """A row for each contrast that was followed: its mean difference early, from when it is settled, head starts."""
    header = [words_of(answer.table.axis), "at", "early difference", "95 % interval", "p (Holm)", "one side from step"]
    goals = list(dict.fromkeys(start.goal for one in answer.contrasts if one.lead for start in one.lead.head_starts))
    for goal in goals:
        when = "end" if goal == 1 else "half-way" if goal == 0.5 else f"{goal:g}"
        header += [f"steps fewer, {when}", "95 % interval", f"after the start's cost, {when}"]
    rows: list[list[Cell]] = []
    for one in answer.contrasts:
        if one.lead is None:
            continue
        early = one.early
        row: list[Cell] = [value_text(one.other), place_of_contrast(one)]
        row += (
            [early.estimate.value, interval_text(early.estimate), p_text(early.adjusted)] if early else [None, "", ""]
        )
        row.append(None if one.lead.settled_from is None else int(one.lead.settled_from))
        by_goal = {start.goal: start for start in one.lead.head_starts}
        for goal in goals:
            row += _steps_fewer(by_goal.get(goal))
        rows.append(row)
    return header, rows


def place_of_contrast(one: Contrast) -> str:
    """``all``, or the value of an axis: ``width 64``."""
    return "all" if one.by is None else f"{words_of(one.by)} {value_text(one.value)}"


def answer_data(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """The same for ``--json``: a mapping for each contrast, differences other minus reference."""
    return [
        {
            "axis": answer.table.axis,
            "reference": answer.table.reference,
            "loss": answer.loss,
            "left_out": list(answer.left_out),
            "contrasts": [_contrast_data(one) for one in answer.contrasts],
            "changes": [
                {"other": one.other, "measure": one.measure, "by": one.comparison.axis, **_ends(one.comparison)}
                | {"from": one.comparison.first, "to": one.comparison.second}
                for one in answer.changes
            ],
        }
        for answer in answers
    ]


def _contrast_data(one: Contrast) -> dict[str, Any]:
    data: dict[str, Any] = {"other": one.other, "by": one.by, "value": one.value, "seeds": list(one.seeds)}
    data |= {"incomplete": one.incomplete, "diverged": list(one.diverged), "same_runs": one.same_runs}
    data["end"] = {measure: _ends(end) for measure, end in one.ends.items()}
    data["early"] = None if one.early is None else _ends(one.early)
    lead = one.lead
    data["training"] = (
        None
        if lead is None
        else {
            "steps": list(lead.steps),
            "differences": [vars(end) for end in lead.differences],
            "early_until": lead.early_until,
            "stretches": [vars(stretch) for stretch in lead.stretches],
            "settled_from": lead.settled_from,
            "head_starts": [_plain(start) for start in lead.head_starts],
        }
    )
    return data


def _ends(one: Comparison) -> dict[str, Any]:
    return {
        "difference": vars(one.estimate),
        "wins": one.wins,
        "pairs": one.pairs,
        "p": one.p,
        "adjusted_p": one.adjusted,
        "verdict": one.verdict,
        "source": one.source,
    }


def _plain(one: HeadStart) -> dict[str, Any]:
    return {key: vars(value) if isinstance(value, Estimate) else value for key, value in vars(one).items()}


def _steps_fewer(one: HeadStart | None) -> list[Cell]:
    if one is None:
        return [None, "", None]
    if one.steps is None:
        return [f"never in {one.missed} of {one.pairs}", "", None]
    return [one.steps.value, interval_text(one.steps), None if one.paid is None else one.paid.value]
