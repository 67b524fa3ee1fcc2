"""What a study found before and after its cells: their learning rates, and what its oracle is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from folio.errors import ArtifactError
from folio.evaluation.results import read_evaluation
from folio.reports.page import Cell, Page
from folio.reports.quantities import duration
from folio.reports.scales import short_number
from folio.studies.findings.results import Results, words_of
from folio.studies.grid.axes import value_text
from folio.studies.running.records import StudyFolder

MUON_RATE, RATE = "train.optimizer.muon_learning_rate", "train.optimizer.learning_rate"


def show_found(page: Page, results: Results, folder: StudyFolder) -> None:
    """Sections for the rates and the oracle, where the study has them."""
    if rates := folder.found_rates():
        _rates(page, rates)
    if results.study.oracle is not None:
        _oracle(page, results, folder)


def tell_edges(page: Page, folder: StudyFolder) -> None:
    """A note of families whose rate is the lowest or the highest that was tried, so that none is thought the best."""
    edges = [one for one in folder.found_rates() if any("that was tried" in note for note in one["notes"])]
    if edges:
        named = "; ".join(
            ", ".join(f"{words_of(axis)} {value_text(value)}" for axis, value in one["family"].items()) or "all cells"
            for one in edges
        )
        page.note(f"The learning rate is at the edge of what was tried, and a better one may lie beyond, of: {named}.")


def _rates(page: Page, rates: Sequence[Mapping[str, Any]]) -> None:
    axes = list(dict.fromkeys(axis for one in rates for axis in one["family"]))
    both = any(MUON_RATE in one["rates"] for one in rates)
    header = [*map(words_of, axes), "learning rate", *(["Muon's"] if both else []), "cells", "searched by", "because"]
    rows: list[list[Cell]] = []
    for one in rates:
        row: list[Cell] = [value_text(one["family"][axis]) if axis in one["family"] else "" for axis in axes]
        row += [short_number(one["rates"][RATE])] + ([short_number(one["rates"].get(MUON_RATE, 0.0))] if both else [])
        rows.append([*row, one["cells"], one["searched"], "; ".join([one["why"], *one["notes"]])])
    spent, steps = sum(one["seconds"] for one in rates), sum(one["steps"] for one in rates)
    page.section(
        "Learning rates",
        f"Found before any cell was trained, by the recipe of one cell for each family: {steps:,} steps in "
        f"{duration(spent)} in all. Each search has a page of its own, under rates/.",
    )
    page.table(header, rows)


def _oracle(page: Page, results: Results, folder: StudyFolder) -> None:
    asked = results.study.oracle
    assert asked is not None
    judged = [cell.name for cell in results.finished if (folder.path / "oracle" / cell.name).is_dir()]
    if not judged:
        page.note("The oracle has not judged yet.")
        return
    try:
        facts = read_evaluation(folder.path / "oracle" / judged[0]).config
    except ArtifactError as error:
        page.note(f"What the oracle wrote cannot be read: {error.problem}.")
        return
    drawn, several = facts["prompts"], "s" * (asked.samples > 1)
    page.section(
        "The oracle",
        f"{'A model that was there' if asked.model else 'A model trained here'}: {facts['oracle']}. It read what each "
        f"cell wrote after the same {drawn['drawn']} prompts, of {drawn['candidates']:,} passages of {drawn['text']}: "
        f"{asked.samples} continuation{several} of each at temperature {asked.temperature:g}, {asked.ratio:g} times as "
        "long as the prompt in tokens of the model that writes. The score is the mean natural log-probability of a "
        "token of the oracle.",
    )
    if (told := results.reference.get("oracle.log_probability")) is not None:
        page.paragraph(f"The text that really follows the prompts has {short_number(told)} by the same oracle.")
