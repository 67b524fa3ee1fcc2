"""What all of Folio's blocks for datatrove share: the writing they carry, and the word that they leave of a rank."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from folio.artifacts import write_file
from folio.errors import MissingExtra, UserError, require
from folio.shards.machines.ranks import failure_file, written_down
from folio.shards.parts.job import Told
from folio.shards.parts.journal import process_file
from folio.shards.parts.writing import Step, Writing
from folio.shards.write import is_done

BASE = "datatrove.pipeline.base"


class _Absent:
    """What blocks are of without datatrove: to make one names the package."""

    def __init__(self) -> None:
        require(BASE, "data")


def _pipeline_step() -> Any:
    try:
        return require(BASE, "data").PipelineStep
    except MissingExtra:
        return _Absent


PipelineStep: Any = _pipeline_step()


class _Carried:
    """Keeps a writing out of the description of itself that an executor writes down, and from being copied for each
    rank."""

    def __init__(self, writing: Writing) -> None:
        self.writing = writing

    def __deepcopy__(self, known: object) -> _Carried:
        return self

    def __repr__(self) -> str:
        return f"writing of {self.writing.to.name}"


class Block(PipelineStep):  # type: ignore[misc]
    type = "folio"

    def __init__(self, writing: Writing) -> None:
        super().__init__()
        self._carried = _Carried(writing)

    @property
    def writing(self) -> Writing:
        return self._carried.writing

    def _step(self, name: str) -> Step:
        return next(each for each in self.writing.steps() if each.name == name)

    def _tell(self, told: Told) -> None:
        if told.note:
            require("loguru", "data").logger.warning(told.note)

    def _count(self, unit: str, **counts: int) -> None:
        for name, count in counts.items():
            self.stat_update(name, value=count, unit=unit)


class AtWork:
    """Leaves word of who does a rank while it lasts, and of the error if it fails for a reason of the user's.

    That the folder is gone is no error once the shards are finished: another rank may have filled the budget.
    """

    def __init__(self, writing: Writing, rank: int) -> None:
        self._writing = writing
        self._process, self._failure = process_file(writing.folder, rank), failure_file(writing.folder, rank)

    def __enter__(self) -> None:
        self._failure.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            self._process.write_text(str(os.getpid()))

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, UserError) and self._writing.folder.is_dir():
            write_file(self._failure, written_down(error))
        self._process.unlink(missing_ok=True)
        return isinstance(error, FileNotFoundError) and is_done(self._writing.to, self._writing.job)
