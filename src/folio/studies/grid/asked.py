"""What a study asks besides its grid: rates to be found, an oracle to judge, contrasts and figures to be shown."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from folio.config import Table


class RatesTable(Table):
    """The learning rate of each family of cells, found before any of them is trained."""

    for_each: tuple[str, ...] = ()
    """Axes whose combinations are the families, each with a search of its own. Empty: one rate for all."""
    search: dict[str, Any] = {}
    """How closely to look: the flags of folio lr, such as steps, seeds, low, high and refine.rates."""


class OracleTable(Table):
    """A judge model that scores what every finished cell writes after the same prompts."""

    model: str = ""
    """A run, a checkpoint, a Hugging Face-style folder or a hub id. Empty: the oracle is trained here, by recipe."""
    base: str | None = None
    """A preset's name, or a TOML file beside the study file: what the oracle is trained by."""
    recipe: dict[str, Any] = {}
    """Keys of that recipe, over those of the base. The oracle is trained once, as a run beside the cells."""
    prompts: int = Field(default=50, ge=1)
    """Prompts: passages of the held-out text, the same for all cells."""
    samples: int = Field(default=1, ge=1)
    """Continuations of each prompt."""
    ratio: float = Field(default=3.0, gt=0)
    """Length of a continuation over that of its prompt, in tokens of the model that writes it."""
    min_words: int = Field(default=1, ge=1)
    """Leave out prompts of fewer words."""
    max_words: int | None = Field(default=None, ge=1)
    """Leave out prompts of more words; in any case those that the context of a cell does not hold."""
    temperature: float = Field(default=1.0, ge=0)
    """Of the continuations."""
    seed: int = Field(default=0, ge=0)
    """Decides which prompts are drawn, and the seed of every continuation."""
    reference: bool = True
    """Score the text that really follows the prompts, too."""

    @model_validator(mode="after")
    def _there_or_trained(self) -> Self:
        if bool(self.model) == bool(self.recipe or self.base):
            raise ValueError("an oracle is either a model that is there, or a base and recipe to train one by")
        if self.max_words is not None and self.max_words < self.min_words:
            raise ValueError(f"max_words is {self.max_words}, fewer than min_words, {self.min_words}")
        return self


class ContrastTable(Table):
    """One value of an axis held against others, at the end and while training: what the answer is made of."""

    axis: str
    """The axis."""
    reference: Any
    """The value that the others are compared with."""
    others: tuple[Any, ...] = ()
    """Which others. Empty: all that share a combination of the other axes with the reference."""
    by: tuple[str, ...] = ()
    """Axes by whose values it is told apart, besides over all."""


class FigureTable(Table):
    """A figure of the study's own, besides those that every study has."""

    title: str
    """What stands above it."""
    measure: str
    """What is drawn upwards: a measure, or any other number of the cells."""
    x: str
    """What is drawn to the right: an axis, or a number of the cells such as parameters."""
    lines: str | None = None
    """The axis whose values are the lines, or the colours of dots."""
    panels: str | None = None
    """The axis whose values have a panel each."""
    kind: Literal["means", "dots"] = "means"
    """Means over seeds with bands, or a dot for each cell."""
