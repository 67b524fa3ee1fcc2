"""How far the rows of an embedding have moved from where they began, as a run's checkpoints have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from folio.artifacts import verify_part
from folio.model.stored import CONFIG, WEIGHTS
from folio.tokenizer.vectors import WordVectors, load_vectors, movement
from folio.tokenizer.word2vec import Rows
from folio.training.checkpoint import Checkpoint, list_checkpoints
from folio.training.config_embeddings import FIRST_ROWS
from folio.training.embeddings import embedding_rows


@dataclass(frozen=True)
class Moved:
    """|now - start| / |start| of the rows that began as word2vec's, after ``step`` steps."""

    step: int
    words: int
    median: float
    p95: float
    """The 95th percentile."""
    largest: float


def first_rows(run: Path) -> WordVectors | None:
    """What the embedding of ``run`` began with, None if that was random.

    :class:`~folio.errors.ArtifactError` if it is damaged.
    """
    folder = run / FIRST_ROWS
    return load_vectors(folder) if folder.is_dir() else None


def rows_of(checkpoint: Checkpoint) -> Rows:
    """The embedding in a checkpoint, every byte of the weights compared first."""
    verify_part(checkpoint.model, (CONFIG, WEIGHTS))
    return embedding_rows(checkpoint.model)


def moved(first: WordVectors, now: Rows, step: int) -> Moved:
    """How far the rows have come by ``step``; those that a rule gave are left out."""
    others = set(first.facts.get("others", ()))
    learnt = np.array([word not in others for word in first.words])
    shares = movement(first.rows[learnt], now[learnt])
    median, p95, largest = np.quantile(shares, (0.5, 0.95, 1.0)).tolist()
    return Moved(step, len(shares), median, p95, largest)


def movements(run: Path) -> Mapping[int, Moved]:
    """By step, for each checkpoint that ``run`` has kept; empty for a run whose embedding began random."""
    first = first_rows(run)
    if first is None:
        return {}
    return {one.step: moved(first, rows_of(one), one.step) for one in list_checkpoints(run)}
