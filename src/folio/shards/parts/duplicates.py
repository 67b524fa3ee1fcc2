"""Which documents of all parts are duplicates: surveyed part by part, compared part by part, decided once.

Every step leaves a file, which is there whole or not at all, so that each can be done by any process of any machine
that sees the folder, and none is done twice.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from folio.artifacts import write_file
from folio.corpus.quality.exact import DIGEST
from folio.corpus.quality.near import (
    Duplicates,
    Survey,
    candidates,
    find_duplicates,
    join_shingles,
    shingles_of,
    survey,
)
from folio.corpus.sources import Part
from folio.shards.parts.job import Tell, Told

if TYPE_CHECKING:
    from folio.corpus.quality import QualityConfig
    from folio.shards.parts.refining import Refining

Arrays = dict[str, NDArray[Any]]
SURVEY, SHINGLES, CANDIDATES, DECIDED = "survey", "shingles", "candidates.npz", "duplicates.npz"


@dataclass(frozen=True)
class SurveyParts:
    """Notes of each document of a part what duplicates are found by."""

    refining: Refining
    folder: Path

    def run(self, part: Part, tell: Tell) -> None:
        documents = self.refining.singly(part, lambda note: tell(Told(note=note)))
        found = survey(documents, near_of(self.refining.quality))
        _save(step_file(self.folder, SURVEY, part.number), {name: getattr(found, name) for name in Survey.FIELDS})


@dataclass(frozen=True)
class ShingleParts:
    """Notes the runs of words of those documents of a part that share a band with another."""

    refining: Refining
    folder: Path

    def run(self, part: Part, tell: Tell) -> None:
        near = near_of(self.refining.quality)
        assert near is not None
        documents = self.refining.singly(part, lambda note: tell(Told(note=note)))
        found = shingles_of(documents, _load(self.folder / CANDIDATES)["digests"], near)
        runs = list(found.values())
        content = {
            "digests": np.array(list(found), dtype=DIGEST),
            "ends": np.cumsum([len(run) for run in runs], dtype=np.int64),
            "runs": np.concatenate(runs) if runs else np.empty(0, dtype=np.uint64),
        }
        _save(step_file(self.folder, SHINGLES, part.number), content)


def near_of(quality: QualityConfig) -> Any:
    """How near-duplicates are found, None where only equal texts are."""
    return quality.near if quality.duplicates == "near" else None


def compares_exactly(quality: QualityConfig) -> bool:
    """Whether documents that share a band are compared, in a walk of its own."""
    return quality.duplicates == "near" and quality.near.similarity is not None


def find_candidates(folder: Path, parts: int) -> None:
    """Once every part is surveyed: which documents are to be compared."""
    if not (folder / CANDIDATES).exists():
        _save(folder / CANDIDATES, {"digests": candidates(_survey_of_all(folder, parts))})


def decide(folder: Path, parts: int, quality: QualityConfig) -> Path:
    """Once every part is surveyed, and compared if it is to be: the file that says which documents go."""
    decided = folder / DECIDED
    if not decided.exists():
        runs = None
        if compares_exactly(quality):
            each = (_runs_of(step_file(folder, SHINGLES, number)) for number in range(parts))
            runs = join_shingles(each)
        found = find_duplicates(_survey_of_all(folder, parts), near_of(quality), runs, in_order=True)
        _save(decided, {name: getattr(found, name) for name in Duplicates.FIELDS})
    return decided


def load_duplicates(decided: Path) -> Duplicates:
    """What :func:`decide` found, for one process."""
    return Duplicates(**_load(decided))


def step_file(folder: Path, step: str, number: int) -> Path:
    """What a step leaves of one part."""
    return folder / f"{number:08d}.{step}.npz"


def undone(folder: Path, step: str, numbers: Iterable[int]) -> list[int]:
    """Of the parts ``numbers``, those that ``step`` has still to be done with; a damaged file counts as none."""
    return [number for number in numbers if not _is_sound(step_file(folder, step, number))]


def _survey_of_all(folder: Path, parts: int) -> Survey:
    first, *others = (Survey(**_load(step_file(folder, SURVEY, number))) for number in range(parts))
    return first.joined(*others)


def _runs_of(path: Path) -> dict[bytes, NDArray[Any]]:
    found = _load(path)
    runs = np.split(found["runs"], found["ends"][:-1]) if len(found["ends"]) else []
    names = (bytes(digest).ljust(DIGEST.itemsize, b"\0") for digest in found["digests"])  # numpy drops zeros at the end
    return dict(zip(names, runs, strict=True))


def _save(path: Path, content: Arrays) -> None:
    packed = io.BytesIO()
    np.savez(packed, **content)  # type: ignore[arg-type]
    write_file(path, packed.getvalue())


def _load(path: Path) -> Arrays:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def _is_sound(path: Path) -> bool:
    try:
        _load(path)
    except (OSError, ValueError, BadZipFile, KeyError):
        return False
    return True
