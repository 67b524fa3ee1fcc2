"""What is measured while training, besides the validation loss."""

from __future__ import annotations

from pydantic import Field

from folio.config import Table


class EvaluationConfig(Table):
    """Measured every so many steps and after the last, without touching the run's bits."""

    every: int = Field(default=0, ge=0)
    """Steps between measurements; 0: after the last step only."""
    tasks: tuple[str, ...] = ()
    """Benchmarks that come with Folio, or paths of descriptions; empty measures none."""
    convention: tuple[str, ...] = ()
    """Of a benchmark: completion, harness, ... Empty: each that it has."""
    items: int = Field(default=500, ge=0)
    """Items of each benchmark: a sample drawn once, by seed; 0 takes all."""
    seed: int = Field(default=0, ge=0)
    """Draws the items."""
    data: tuple[str, ...] = ()
    """A benchmark's file, as FILE or TASK=FILE. Empty: fetched by name, once."""
    texts: tuple[str, ...] = ()
    """Own texts whose loss is measured: files, folders or globs, all of each."""
    oracle: str | None = None
    """A judge of what the model writes after held-out prompts: a run, a model folder or a hub id."""
    prompts: int = Field(default=20, ge=1)
    """Prompts for the oracle, drawn once by seed."""
    harness: tuple[str, ...] = ()
    """Tasks of lm-evaluation-harness, on their first `items` documents."""
