"""A study's folder: what is studied, the cells' recipes, runs and logs, and what became of each.

::

    study.json      the study as it was last run (sealed)
    cells.jsonl     what happened to cells, a line each, appended and never rewritten
    recipes/NAME.toml, cells/NAME/ (a run folder), logs/NAME.log
    rates/NAME/     a search for the learning rate of a family of cells
    oracle/         what the oracle makes of the cells
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from folio.artifacts import write_file
from folio.checksums import read_sealed_json, sealed_json
from folio.config import build
from folio.errors import ArtifactError
from folio.locks import locked
from folio.studies.grid.spec import Study
from folio.studies.running.watching import ending_of
from folio.training.metrics import METRICS, MetricsLog, read_metrics

STUDY, CELLS, LOCK = "study.json", "cells.jsonl", ".studying"
Status = Literal["waiting", "begun", "running", "finished", "diverged", "failed"]
OVER: tuple[Status, ...] = ("finished", "diverged")
"""Nothing is left to be trained: a run that diverged would do so again."""
MEND = "Restore the file, or study in another folder."


@dataclass(frozen=True)
class CellState:
    """What became of a cell so far. ``error`` says why it failed or diverged; ``threads`` are those it began with."""

    status: Status = "waiting"
    error: str = ""
    attempts: int = 0
    threads: int | None = None


@dataclass(frozen=True)
class StudyFolder:
    """Where a study lies."""

    path: Path

    def run(self, name: str) -> Path:
        return self.path / "cells" / name

    def recipe(self, name: str) -> Path:
        return self.path / "recipes" / f"{name}.toml"

    def log(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    def rates(self, name: str) -> Path:
        return self.path / "rates" / name

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from running the same study meanwhile."""
        with locked(self.path / LOCK, wait=False) as held:
            if not held:
                raise ArtifactError(f"another process is running the study in '{self.path}'", "Wait until it ends.")
            yield

    def read(self) -> tuple[Study, dict[str, Any]]:
        """The study as it was last run, and its cells by name; :class:`ArtifactError` if there is none, or damaged."""
        if not (self.path / STUDY).is_file():
            what = "is no study: it has no study.json" if self.path.exists() else "does not exist"
            raise ArtifactError(f"'{self.path}' {what}", "Give the folder that folio study run wrote, or a TOML file.")
        saved = read_sealed_json(self.path / STUDY, MEND)
        if not isinstance(saved.get("study"), Mapping) or not isinstance(saved.get("cells"), Mapping):
            raise ArtifactError(f"'{self.path / STUDY}' is damaged: it holds no study", MEND)
        return build(Study, saved["study"], source=f"'{self.path / STUDY}'"), dict(saved["cells"])

    def refuse_another(self, study: Study) -> None:
        """:class:`ArtifactError` if the folder holds another study, or something else."""
        if not self.path.exists() or (self.path.is_dir() and not _content(self.path)):
            return
        if not (self.path / STUDY).is_file():
            raise ArtifactError(f"'{self.path}' holds something else than a study", "Choose another folder with --out.")
        before, _ = self.read()
        if (before.name, before.scale) != (study.name, study.scale):
            raise ArtifactError(
                f"'{self.path}' holds the study {before.name} at scale {before.scale}, not {study.name} at scale "
                f"{study.scale}",
                "Choose another folder with --out.",
            )

    def write(self, study: Study, cells: Mapping[str, Any], rates: Sequence[Mapping[str, Any]] = ()) -> None:
        """Put down what is studied: ``cells`` by name, a mapping each, and the ``rates`` that were found for them."""
        described = {"study": study.model_dump(mode="json"), "cells": dict(cells), "rates": list(rates)}
        write_file(self.path / STUDY, sealed_json(described))

    def known(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The cells and the rates of the study as it was last run; nothing of one that was not begun."""
        return (self.read()[1], self.found_rates()) if (self.path / STUDY).is_file() else ({}, [])

    def found_rates(self) -> list[dict[str, Any]]:
        """What was found for each family of cells; empty where learning rates were not searched."""
        return list(read_sealed_json(self.path / STUDY, MEND).get("rates", []))

    def states(self, names: list[str]) -> dict[str, CellState]:
        """What became of each cell by its records and its run; the run is believed where they differ.

        :class:`ArtifactError` for a damaged line, of the records or of a run.
        """
        told = {name: CellState() for name in names}
        lines = read_metrics(self.path, CELLS) if (self.path / CELLS).is_file() else []
        for line in lines:
            name = line.get("cell")
            if not isinstance(name, str) or line["kind"] not in ("began", "stopped", "failed", *OVER):
                raise ArtifactError(f"'{self.path / CELLS}' is damaged: a line says nothing of a cell", MEND)
            if name in told:
                told[name] = _after(told[name], line)
        return {name: self._believed(name, state) for name, state in told.items()}

    def _believed(self, name: str, state: CellState) -> CellState:
        run = self.run(name)
        if not (run / "config.json").is_file():
            status: Status = "failed" if state.status == "failed" else "waiting"
            return CellState(status, state.error if status == "failed" else "", state.attempts)
        if state.status in OVER:
            if not (run / METRICS).is_file():
                raise ArtifactError(f"the cell '{run}' is damaged: it has no {METRICS}", "Remove it to train it again.")
            return state
        if (ending := ending_of(run)) is not None:
            return CellState(ending[0], ending[1], state.attempts, state.threads)
        return state if state.status == "failed" else CellState("begun", "", state.attempts, state.threads)

    def strangers(self, names: list[str]) -> list[str]:
        """Cells in the folder that the study does not have (any more)."""
        found = (path.name for path in sorted((self.path / "cells").glob("*/")) if not path.name.startswith("."))
        return [name for name in found if name not in names]


def _content(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name != LOCK]


def _after(state: CellState, line: Mapping[str, Any]) -> CellState:
    kind = line["kind"]
    if kind == "began":
        return CellState("begun", "", state.attempts + 1, state.threads or line.get("threads"))
    status: Status = "begun" if kind == "stopped" else kind
    return CellState(status, line.get("error", ""), state.attempts, state.threads)


class CellLog:
    """Appends to a study's ``cells.jsonl``; each line is on the disk when the call returns."""

    def __init__(self, folder: StudyFolder) -> None:
        self._log = MetricsLog(folder.path / CELLS)

    def __enter__(self) -> CellLog:
        return self

    def __exit__(self, *error: object) -> None:
        self._log.close()

    def tell(self, kind: str, cell: str, step: int = 0, **facts: Any) -> None:
        self._log.log(kind=kind, step=step, cell=cell, **facts)
        self._log.sync()
