"""The answer to a study's question: sentences, tables and figures of its contrasts, for page, terminal and programs."""

from __future__ import annotations

from collections.abc import Sequence

from folio.reports.page import Page
from folio.reports.study.answer_figures import TRAINING, answer_figures
from folio.reports.study.answer_tables import contrast_table, training_table
from folio.reports.study.answer_training import early_words, head_start_words, stretch_words
from folio.reports.study.answer_words import by_words, end_words, evidence_words, other_measures_words
from folio.studies.findings.answers import Answer, Contrast
from folio.studies.findings.results import words_of
from folio.studies.grid.axes import value_text

MOST_SHOWN = 2
"""Measures whose figure is on the page; those of all are files."""


def show_answer(page: Page, answers: Sequence[Answer]) -> dict[str, str]:
    """A section with what every contrast comes to; its figures by the name of their file. Nothing without contrasts."""
    figures: dict[str, str] = {}
    if not answers:
        return figures
    page.section("Answer")
    for number, answer in enumerate(answers, 1):
        for sentences in answer_words(answer):
            page.paragraph(sentences)
        named = answer_figures(answer, f"answer-{number}")
        figures |= named
        ends = [svg for name, svg in named.items() if TRAINING not in name]
        if ends:
            page.figures(*ends[:MOST_SHOWN], caption="Differences at the end with 95 % intervals, each by itself.")
        if training := [svg for name, svg in named.items() if TRAINING in name]:
            page.figures(
                *training,
                caption=f"Difference in {words_of(answer.loss)} from {value_text(answer.table.reference)} while "
                "training; bands are 95 % intervals at each step by itself, Student's t over seeds.",
            )
        for sentences in detail_words(answer):
            page.paragraph(sentences)
        header, rows = training_table(answer)
        if rows:
            page.table(header, rows, caption="While training; steps that an other needs fewer, below zero more.")
    header, rows = contrast_table(answers)
    page.table(header, rows, caption="Differences at the end, other minus reference.")
    page.paragraph(
        "p is two-sided and corrected by Holm's method within a family: the others of a contrast over all, or at the "
        "values of one axis, in one measure. “Cannot be told” does not mean that there is no difference: the interval "
        "says how large one may be."
    )
    return figures


def answer_words(answer: Answer) -> list[str]:
    """Paragraphs of sentences: what each other is at the end, early and by how many steps, and by each axis."""
    said = []
    for one in answer.at(None):
        main = _measure(answer, one)
        training = "" if one.lead is None else head_start_words(one.lead, one.reference)
        said.append(_joined([end_words(one, main), early_words(one, answer.loss), training]))
        by = []
        for axis in answer.axes:
            found = [part for part in answer.at(axis) if repr(part.other) == repr(one.other)]
            changes = [
                change
                for change in answer.changes
                if repr(change.other) == repr(one.other) and (change.comparison.axis, change.measure) == (axis, main)
            ]
            by.append(by_words(found, main, changes))
        said.append(_joined(by))
    if not answer.contrasts:
        said.append(f"Nothing can be said yet of {words_of(answer.table.axis)}: the study has no cells that pair up.")
    return [paragraph for paragraph in said if paragraph]


def detail_words(answer: Answer) -> list[str]:
    """What is behind it: other measures, step by step, combinations and seeds, and what is left out."""
    said = []
    for one in answer.at(None):
        main = _measure(answer, one)
        measures = other_measures_words(one, [name for name in answer.measures if name != main])
        steps = "" if one.lead is None else stretch_words(one.lead, answer.loss)
        if details := _joined([measures, steps, evidence_words(one, main, answer.over)]):
            said.append(f"More on {words_of(one.axis)} {value_text(one.other)}. {details}")
    if answer.left_out:
        words = ", ".join(map(words_of, answer.left_out))
        said.append(f"Left out between values of {words_of(answer.table.axis)}: {words}, for they count other tokens.")
    return said


def answer_lines(answers: Sequence[Answer]) -> list[str]:
    """What a terminal is told: a sentence for each other, and one while training."""
    lines = []
    for answer in answers:
        for one in answer.at(None):
            lines.append(end_words(one, _measure(answer, one)))
            lines += [early] if (early := early_words(one, answer.loss)) else []
    return lines


def _measure(answer: Answer, one: Contrast) -> str:
    """The first measure that says something of a contrast."""
    return next((name for name in answer.measures if name in one.ends), next(iter(answer.measures), ""))


def _joined(sentences: Sequence[str]) -> str:
    return " ".join(sentence for sentence in sentences if sentence)
