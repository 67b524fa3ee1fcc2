"""What a study holds: its grids, and what is asked of them."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from folio.config import Table, deep_merge
from folio.studies.grid.asked import ContrastTable, FigureTable, OracleTable, RatesTable

WHOLE = "whole"
"""The scale of a study as its file has it, without an overlay."""
SMALL = "small"
"""The usual name of a form that a laptop finishes."""


class Condition(Table):
    """What holds for some of the cells alone."""

    when: str
    """An expression over axes, seed and keys of the recipe, such as 'width > 128 and learning_rate > 0.01'."""
    leave_out: bool = False
    """Leave such cells out."""
    keep_only: bool = False
    """Leave all other cells out."""
    set: dict[str, Any] = {}
    """Keys of the recipe that have other values in such cells."""
    because: str = ""
    """Why, for the reader."""

    @model_validator(mode="after")
    def _does_one_thing(self) -> Self:
        if self.leave_out + self.keep_only + bool(self.set) != 1:
            raise ValueError("a condition has one of leave_out = true, keep_only = true, or set = { key = value }")
        return self


class GridTable(Table):
    """One grid: all combinations of its axes and variants, but for what conditions leave out."""

    base: str | None = None
    """A preset's name, or a TOML file beside the study file."""
    recipe: dict[str, Any] = {}
    """Keys that every cell has, over those of the base."""
    axes: dict[str, Any] = {}
    """Values by key, "model.n_embd" = [64, 128], or by a name: width = { key = "model.n_embd", values = [64, 128] }.
    A named axis without a key is for expressions alone."""
    variants: dict[str, dict[str, dict[str, Any]]] = {}
    """Groups of keys that change together, by name: [variants.optimizer.muon] and [variants.optimizer.adamw]."""
    derived: dict[str, Any] = {}
    """Keys that are computed for each cell: "model.n_head" = "width / 64"."""
    conditions: tuple[Condition, ...] = ()
    """What holds for some of the cells alone, in order."""


class StudyTable(GridTable):
    """A study: one grid, or several that share what stands beside them."""

    name: str = ""
    """What its folder is called. Empty: the file's name."""
    title: str = ""
    """The title of its page."""
    question: str = ""
    """What is to be found out; stands on the page above the answer."""
    seeds: int | tuple[int, ...] = 1
    """Which seeds (train.seed) each combination is trained with, or how many: from the recipe's own on."""
    grids: dict[str, GridTable] = {}
    """Several grids by name, each over what the study itself says."""
    measures: tuple[str, ...] = ("nats_per_token", "bits_per_byte")
    """What is compared, the first above all: nats_per_token, bits_per_byte, perplexity, seconds, or any score that
    [recipe.evaluation] asks for, such as hellaswag.completion.acc_norm."""
    scores_at: Literal["best", "last"] = "best"
    """The moment of a run whose scores count: the best validation, or the last step."""
    tuned: tuple[str, ...] = ()
    """Axes that are no question of their own, such as a learning rate: comparisons take the best of each."""
    equal_cells: Literal["refuse", "merge"] = "refuse"
    """Two cells that would be the same run: a mistake, or trained once and shown as both."""
    rates: RatesTable | None = None
    """Learning rates that are found, not typed: a search for each family of cells, before any is trained."""
    oracle: OracleTable | None = None
    """A judge of what the finished cells write; its score is the measure oracle.log_probability."""
    contrasts: tuple[ContrastTable, ...] = ()
    """What the question comes down to: values of an axis against one of them, at the end and while training."""
    figures: tuple[FigureTable, ...] = ()
    """Figures of the study's own."""
    scales: dict[str, dict[str, Any]] = {}
    """Smaller (or larger) forms of the study by name: what stands there replaces what stands above."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if isinstance(self.seeds, tuple):
            if not self.seeds:
                raise ValueError("seeds are empty: give at least one, or how many")
            if twice := next((one for one in self.seeds if self.seeds.count(one) > 1), None):
                raise ValueError(f"seed {twice} is given twice")
        if min(self.seeds if isinstance(self.seeds, tuple) else (self.seeds - 1,)) < 0:
            raise ValueError("a seed is below 0" if isinstance(self.seeds, tuple) else "seeds must be 1 or more")
        if not self.measures:
            raise ValueError("measures are empty: name at least one, such as nats_per_token")
        return self


class Study(StudyTable):
    """A study at one scale, nothing left to be read: bases are in the recipes, keys are dotted."""

    scale: str = WHOLE
    """Which of its scales this is."""

    def grid_tables(self) -> dict[str, GridTable]:
        """Each grid by name, with what the study says for all; a study without grids is one without a name."""
        shared = self.model_dump(include=set(GridTable.model_fields), exclude_unset=True)
        if not self.grids:
            return {"": GridTable.model_validate(shared)}
        own = {name: grid.model_dump(exclude_unset=True) for name, grid in self.grids.items()}
        return {
            name: GridTable.model_validate(
                {**deep_merge(shared, grid), "conditions": [*shared.get("conditions", ()), *grid.get("conditions", ())]}
            )
            for name, grid in own.items()
        }
