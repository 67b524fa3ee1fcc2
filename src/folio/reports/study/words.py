"""The words of a study in its report: what vocabularies reach, how long lines are, and what training did to vectors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from folio.corpus.statistics import Lengths
from folio.errors import ArtifactError
from folio.reports.charts import HALF, WIDE, Series, line_chart
from folio.reports.exploration.lengths import Side, length_chart
from folio.reports.page import Cell, Page
from folio.reports.study.vectors import Shown, cosine_maps, movement_figures, word_cells
from folio.studies.findings.results import Results
from folio.studies.findings.vocabulary import LONGEST, read_text, text_files
from folio.studies.running.records import StudyFolder

SIDES = {"training": "training", "held_out": "held-out"}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_LENGTHS = 500_000
FAR_CONTEXT = 4
"""A context of more than so many of the longest lines is told, not drawn: it would leave the lines no room."""


def show_words(page: Page, folder: StudyFolder, results: Results) -> dict[str, str]:
    """A section for a study with tokenizers of words; its figures by the names of their files, SVG each.

    No section, and no figures, where there is nothing to show. What cannot be read is said in its place.
    """
    cells, faults = word_cells(folder, results)
    texts = {}
    for path in text_files(folder):
        try:
            texts[path.stem] = read_text(path)
        except ArtifactError as error:
            faults.append(error.problem)
    vectors = [shown for shown in (cosine_maps(cells, results, faults), movement_figures(cells, faults)) if shown]
    if not (texts or vectors or faults):
        return {}
    page.section("The words")
    for fault in faults:
        page.note(f"Something of the words is missing: {fault}.")
    contexts = sorted({one.context for one in cells if one.context})
    figures: dict[str, str] = {}
    for name, facts in texts.items():
        figures |= _show_text(page, facts, contexts, f"{name}-" if len(texts) > 1 else "")
    for shown in vectors:
        page.figures(*shown.figures.values(), caption=shown.caption)
        figures |= shown.figures
    return {f"words-{name}": svg for name, svg in figures.items()}


def _show_text(page: Page, facts: Mapping[str, Any], contexts: Sequence[int], prefix: str) -> dict[str, str]:
    of = f", {facts['text']}" if prefix else ""
    page.paragraph(_told(facts))
    coverage = _coverage(facts, of)
    page.figures(*coverage.figures.values(), caption=coverage.caption)
    own = [row for row in facts["coverage"] if row["min_count"] in facts["min_counts"]]
    page.table(
        ("min_count", "words with an id", "% of the training text", "% of the held-out text"),
        [
            (
                row["min_count"],
                row["types"],
                *(None if row[side] is None else round(100 * row[side], 2) for side in SIDES),
            )
            for row in own or facts["coverage"]
        ],
    )
    lines = _lines(facts, contexts, of)
    if lines is not None:
        page.figures(*lines.figures.values(), caption=lines.caption)
        page.table(
            ("words of a line", *(f"{100 * q:g} %" for q in QUANTILES), "mean", "longest", "lines"),
            _line_rows(facts),
        )
    found = {**coverage.figures, **(lines.figures if lines else {})}
    return {f"{prefix}{name}": svg for name, svg in found.items()}


def _told(facts: Mapping[str, Any]) -> str:
    known, new = facts["training"], facts["held_out"]
    share = f" ({100 * new['unseen_words'] / new['words']:.1f} % of it)" if new["words"] else ""
    return (
        f"{facts['text']}: the training text has {known['words']:,} running words, marks and line breaks, "
        f"{known['types']:,} different ones; the held-out text has {new['words']:,}, of which {new['unseen_words']:,}"
        f"{share} never occur in training and can have no id."
    )


def _coverage(facts: Mapping[str, Any], of: str) -> Shown:
    rows, own = facts["coverage"], facts["min_counts"]
    least = [row["min_count"] for row in rows]

    def both(label: str, ys: Sequence[float], colour: int) -> list[Series]:
        # nothing after each, so that no line joins them
        apart = [part for at, y in zip(least, ys, strict=True) for part in (y if at in own else math.nan, math.nan)]
        twice = [at for at in least for _ in range(2)]
        dots = Series("in this study", twice, apart, labelled=False, colour=colour)
        return [Series(label, least, ys, colour=colour), *([dots] if own else [])]

    shares = [(side, [100 * row[side] for row in rows]) for side in SIDES if all(row[side] is not None for row in rows)]
    reached = [one for n, (side, ys) in enumerate(shares) for one in both(SIDES[side], ys, n)]
    sizes = both("", [row["types"] for row in rows], 2)
    figures = {
        "coverage": line_chart(
            reached,
            title=f"Vocabulary coverage{of}",
            x_label="min_count",
            y_label="% of running words with an id",
            width=HALF,
            height=300,
        ),
        "vocabulary": line_chart(
            sizes, title=f"Size of the vocabulary{of}", x_label="min_count", y_label="words", width=HALF, height=300
        ),
    }
    dots = "Dots are the vocabularies of this study. " if own else ""
    return Shown(figures, f"{dots}min_count is how often a word must occur in the training text to have an id.")


def _lines(facts: Mapping[str, Any], contexts: Sequence[int], of: str) -> Shown | None:
    """Of the training text; None if no line of it has a word, or all have more than are counted one by one."""
    found = facts["training"]["line_words"]
    lengths = Lengths(Counter(dict(found["counts"])))
    if not lengths.counts:
        return None
    chart = length_chart(
        [Side("training", lengths)],
        title=f"Words of a line{of}",
        unit="words and marks",
        of="lines of the training text",
        width=WIDE,
        quantiles=QUANTILES,
        marks=[("context", one) for one in contexts if one <= FAR_CONTEXT * max(lengths.counts)],
        most=MOST_LENGTHS,
    )
    parts = ["Lines without words are left out, and the end of a line is not counted."]
    if found["longer"]:
        parts.append(f"{found['longer']:,} lines of more than {LONGEST:,} words are not drawn.")
    return Shown({"lines": chart}, " ".join([*parts, *_in_context(facts, contexts)]))


def _line_rows(facts: Mapping[str, Any]) -> list[tuple[Cell, ...]]:
    rows = []
    for side, name in SIDES.items():
        found = facts[side]["line_words"]
        at = {one["quantile"]: one["words"] for one in found["quantiles"]}
        if at:
            row = (
                name,
                *(at[quantile] for quantile in QUANTILES),
                round(found["mean"], 1),
                at[1.0],
                facts[side]["lines"],
            )
            rows.append(row)
    return rows


def _in_context(facts: Mapping[str, Any], contexts: Sequence[int]) -> list[str]:
    """How many lines a model sees at once, the ends of lines counted, for it reads them too."""
    words, lines = facts["training"]["words"], facts["training"]["lines"]
    if not lines:
        return []
    return [
        f"A context of {one:,} tokens holds about {one * lines / words:.1f} such lines with their ends."
        for one in contexts
    ]
