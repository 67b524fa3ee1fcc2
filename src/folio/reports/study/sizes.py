"""How large the models of a study are, and how long they took."""

from __future__ import annotations

import math
from collections.abc import Sequence

from folio.reports.page import Cell
from folio.reports.study.tables import WHOLE, mean_of, plain
from folio.reports.tables import Table
from folio.studies.findings.results import Results, words_of
from folio.studies.findings.statistics import Group

SIZES = ("parameters", "trained_parameters", "seconds_per_step", "tokens_per_s", "seconds")
WITH_WORD2VEC = ("word2vec_seconds", "seconds_in_all")


def size_table(results: Results, groups: Sequence[Group]) -> Table:
    """A row for each combination, in the study's order, with means over its seeds; what says nothing is left out."""
    finished = results.finished
    learnt = any(math.isfinite(cell.score("word2vec_seconds")) for cell in finished)
    frozen = any(cell.score("trained_parameters") < cell.score("parameters") for cell in finished)
    keys = [key for key in (*SIZES, *(WITH_WORD2VEC * learnt)) if frozen or key != "trained_parameters"]
    rows: list[list[Cell]] = []
    for group in groups:
        means = [mean_of(group, key) for key in keys]
        numbers = [round(m) if m is not None and key in WHOLE else m for key, m in zip(keys, means, strict=True)]
        rows.append([*(plain(group.values[axis]) for axis in results.axes), len(group.cells), *numbers])
    return [*map(words_of, results.axes), "seeds", *map(words_of, keys)], rows
