"""Vectors of words in a folder, and what is measured of them.

N words, C numbers in a vector
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from folio.artifacts import new_folder, verify, write_file, write_manifest
from folio.errors import ArtifactError
from folio.tokenizer.word2vec import Rows

KIND = "word-vectors"
ROWS, WORDS = "rows.safetensors", "words.json"


@dataclass(frozen=True, eq=False)
class WordVectors:
    """``rows[i]`` of (N, C) is the vector of ``words[i]``; ``facts`` say how they were made."""

    words: tuple[str, ...]
    rows: Rows
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.words) != len(self.rows) or len(set(self.words)) != len(self.words):
            raise ArtifactError(
                f"{len(self.words):,} words ({len(set(self.words)):,} different ones) do not name {len(self.rows):,} "
                "vectors",
                "Make them again.",
            )

    def known(self, words: tuple[str, ...]) -> list[int]:
        """The rows of those ``words`` that have one, in the order given."""
        places = {word: row for row, word in enumerate(self.words)}
        return [places[word] for word in words if word in places]

    def save(self, folder: Path) -> None:
        """Write an artefact of kind "word-vectors"; :class:`ArtifactError` if ``folder`` holds something else."""
        from safetensors.numpy import save

        with new_folder(folder, replace=KIND) as temporary:
            write_file(temporary / ROWS, save({"rows": np.ascontiguousarray(self.rows)}))
            write_file(temporary / WORDS, json.dumps(self.words, ensure_ascii=False) + "\n")
            write_manifest(temporary, KIND, self.facts)


def load_vectors(folder: Path) -> WordVectors:
    """The vectors in ``folder``, every byte compared; :class:`ArtifactError` if they are damaged or something else."""
    from safetensors.numpy import load_file

    manifest = verify(folder, KIND)
    words = json.loads((folder / WORDS).read_text(encoding="utf-8"))
    return WordVectors(tuple(words), load_file(folder / ROWS)["rows"], manifest.config)


def cosines(rows_NC: Rows) -> np.ndarray:
    """The cosine of every two rows, (N, N) float64; 0 where a row is zero."""
    unit = unit_rows(np.asarray(rows_NC, dtype=np.float64))
    found: np.ndarray = np.clip(unit @ unit.T, -1.0, 1.0)
    return found


def unit_rows(rows_NC: np.ndarray) -> np.ndarray:
    """The rows at length 1, those of length 0 as they are."""
    norms = np.linalg.norm(rows_NC, axis=1, keepdims=True)
    unit: np.ndarray = np.divide(rows_NC, norms, out=np.zeros_like(rows_NC), where=norms > 0)
    return unit


def movement(start_NC: Rows, now_NC: Rows) -> np.ndarray:
    """How far each row has moved as a share of its length at the start, |now - start| / |start|, (N,) float64.

    Infinite for a row that was zero and is no longer, NaN for one that still is.
    """
    start, now = np.asarray(start_NC, dtype=np.float64), np.asarray(now_NC, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved: np.ndarray = np.linalg.norm(now - start, axis=1) / np.linalg.norm(start, axis=1)
    return moved
