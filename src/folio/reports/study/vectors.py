"""Vectors of words over a study's cells: cosines before and after training, and how far rows moved, step by step."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from folio.checksums import read_sealed_json
from folio.errors import ArtifactError
from folio.reports.charts import HALF, Series, line_chart
from folio.reports.heatmap import heat_map, visible
from folio.studies.findings.results import CellResult, Results
from folio.studies.running.records import StudyFolder
from folio.tokenizer.vectors import cosines
from folio.training.config_embeddings import FIRST_ROWS, SHOWN

if TYPE_CHECKING:
    from folio.tokenizer.word2vec import Rows

TEXT = ("corpus", "tokenizer", "model")
"""Tables that two cells must share for their rows to be of the same words and width."""


@dataclass(frozen=True)
class Shown:
    """Figures by name, and what is said under them."""

    figures: Mapping[str, str]
    caption: str


@dataclass(frozen=True)
class WordCell:
    """A finished cell with a tokenizer of words, and the recipe that it was trained by."""

    result: CellResult
    run: Path
    recipe: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """warm or frozen for one that began as word2vec's; random for one that began random and was trained."""
        embeddings = self._table("embeddings")
        mode = str(embeddings.get("mode", "warm"))
        if embeddings.get("init") == "word2vec":
            return mode
        return "random" if mode == "warm" else "random, frozen"

    @property
    def width(self) -> int:
        return int(self._table("model").get("n_embd", 0))

    @property
    def context(self) -> int:
        return int(self._table("model").get("block_size", 0))

    @property
    def min_count(self) -> int:
        return int(self._table("tokenizer").get("min_count", 1))

    @property
    def words(self) -> tuple[str, ...]:
        """Those that its report shows."""
        return tuple(self._table("embeddings").get("show", SHOWN))

    @property
    def of_text(self) -> str:
        return json.dumps([self.recipe.get(name) for name in TEXT], sort_keys=True)

    def _table(self, name: str) -> Mapping[str, Any]:
        found = self.recipe.get(name)
        return found if isinstance(found, Mapping) else {}


def word_cells(folder: StudyFolder, results: Results) -> tuple[list[WordCell], list[str]]:
    """The finished cells with tokenizers of words, and what could not be read."""
    found, faults = [], []
    for cell in {cell.name: cell for cell in results.finished}.values():
        run = folder.run(cell.name)
        try:
            recipe = read_sealed_json(run / "config.json").get("recipe")
        except ArtifactError as error:
            faults.append(error.problem)
            continue
        one = WordCell(cell, run, recipe if isinstance(recipe, Mapping) else {})
        if one._table("tokenizer").get("kind") == "word" or (run / FIRST_ROWS).is_dir():
            found.append(one)
    return found, faults


def cosine_maps(cells: Sequence[WordCell], results: Results, faults: list[str]) -> Shown | None:
    """Cosines of chosen words as word2vec had them, after training from there, and after training from random rows.

    Of cells that are alike in all else and share a seed, of the middle width and min_count. None where no embedding
    began as word2vec's; ``faults`` gets what cannot be read.
    """
    chosen = _alike(cells, results)
    first_cell = chosen.get("warm") or chosen.get("frozen")
    if first_cell is None:
        return None
    try:
        words, stages = _stages(chosen, first_cell)
    except ArtifactError as error:
        faults.append(error.problem)
        return None
    if len(words) < 2:
        return None
    figures = {
        f"cosines-{name}": heat_map(words, cosines(rows).tolist(), title=title, value_label="cosine")
        for name, title, rows in stages
    }
    unknown = [visible(word) for word in first_cell.words if word not in words]
    said = [
        f"Cells of width {first_cell.width:,}, min_count {first_cell.min_count} and seed {first_cell.result.seed}.",
        *(["Frozen vectors stay as word2vec made them."] if "frozen" in chosen else []),
        *([f"Not in the vocabulary: {', '.join(unknown)}."] if unknown else []),
    ]
    return Shown(figures, " ".join(said))


def _stages(chosen: Mapping[str, WordCell], first_cell: WordCell) -> tuple[list[str], list[tuple[str, str, Rows]]]:
    """The words that have rows, and these rows for each stage: its name, its title, (words, width)."""
    from folio.training.checkpoint import list_checkpoints
    from folio.training.movement import first_rows, rows_of

    first = first_rows(first_cell.run)
    if first is None:
        raise ArtifactError(f"'{first_cell.run}' has lost the rows that it began with", "Restore them.")
    places = first.known(first_cell.words)
    stages = [("word2vec", "Word2vec's vectors", first.rows[places])]
    for kind, start in (("warm", "from word2vec's"), ("random", "from random rows")):
        checkpoints = list_checkpoints(chosen[kind].run) if kind in chosen else []
        if checkpoints:
            last = checkpoints[-1]
            stages.append((kind, f"After training {start}, step {last.step:,}", rows_of(last)[places]))
    return [first.words[place] for place in places], stages


def _alike(cells: Sequence[WordCell], results: Results) -> dict[str, WordCell]:
    """A cell of each kind, alike in all else; as many kinds as can be, then the middle width, then min_count."""
    groups: dict[tuple[int, str], dict[str, WordCell]] = {}
    for one in sorted(cells, key=lambda one: _rank(one, results)):
        groups.setdefault((one.result.seed, one.of_text), {}).setdefault(one.kind, one)
    left = list(groups.values())
    most = max((len(_kinds(group)) for group in left), default=0)
    left = [group for group in left if len(_kinds(group)) == most]
    for trait in ("width", "min_count"):
        values = sorted({getattr(one, trait) for group in left for one in group.values()})
        left = [group for group in left if getattr(next(iter(group.values())), trait) == values[len(values) // 2]]
    return min(left, key=lambda group: next(iter(group.values())).result.seed, default={})


def _kinds(group: Mapping[str, WordCell]) -> set[str]:
    """The stages that a group can show: word2vec's own are those of a frozen cell as of a warm one."""
    return ({"word2vec"} if {"warm", "frozen"} & group.keys() else set()) | ({"warm", "random"} & group.keys())


def _rank(one: WordCell, results: Results) -> float:
    """The better cells first, of those that differ in another axis, such as a rate; those without a score last."""
    score = one.result.score(results.measure)
    if math.isnan(score):
        return math.inf
    return score if results.lower_is_better(results.measure) else -score


def movement_figures(cells: Sequence[WordCell], faults: list[str]) -> Shown | None:
    """How far the rows of warm cells have moved by the checkpoints that were kept: a line for each width.

    Of the middle min_count, mean over seeds, at steps that all cells of a width have kept. None unless some have kept
    two; ``faults`` gets what cannot be read.
    """
    warm = [one for one in cells if one.kind == "warm"]
    counts = sorted({one.min_count for one in warm})
    shown = [one for one in warm if one.min_count == counts[len(counts) // 2]]
    moved = {width: _moved([one for one in shown if one.width == width], faults) for width in _widths(shown)}
    moved = {width: steps for width, steps in moved.items() if len(steps) > 1}
    if not moved:
        return None
    figures = {
        f"moved-{name}": line_chart(
            [
                Series(f"width {width}", [0, *steps], [0.0, *(pair[part] for pair in steps.values())], dots=True)
                for width, steps in moved.items()
            ],
            title=f"How far rows moved, {title}",
            x_label="step",
            y_label="|now − start| / |start|",
            width=HALF,
            height=300,
        )
        for part, (name, title) in enumerate((("median", "median"), ("p95", "95th percentile")))
    }
    of = f", min_count {counts[len(counts) // 2]}" if len(counts) > 1 else ""
    return Shown(figures, f"Embeddings that began as word2vec's and were trained{of}; mean over seeds.")


def _widths(cells: Iterable[WordCell]) -> list[int]:
    return sorted({one.width for one in cells})


def _moved(cells: Sequence[WordCell], faults: list[str]) -> dict[int, tuple[float, float]]:
    """Median and 95th percentile by step, mean over ``cells``."""
    from folio.training.checkpoint import list_checkpoints
    from folio.training.movement import movements

    kept = [{one.step for one in list_checkpoints(cell.run)} for cell in cells]
    if len(set.intersection(*kept)) < 2:
        return {}
    try:
        found = [movements(cell.run) for cell in cells]
    except ArtifactError as error:
        faults.append(error.problem)
        return {}
    shared = sorted(set.intersection(*map(set, found)))
    return {step: (fmean(one[step].median for one in found), fmean(one[step].p95 for one in found)) for step in shared}
