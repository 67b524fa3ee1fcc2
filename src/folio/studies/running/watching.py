"""How far a cell's run has come, by what it leaves on disk; nothing is asked of the process that trains it."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from folio.artifacts import CHECKPOINT, read_manifest
from folio.errors import ArtifactError
from folio.training.metrics import METRICS, read_metrics

TAIL_BYTES = 16384
Ending = Literal["finished", "diverged"]


def ending_of(run: Path) -> tuple[Ending, str] | None:
    """How a run has ended, and in words why; None if there is none, or it is to be gone on with.

    Finished is a run whose last step is saved and told of. :class:`ArtifactError` if its metrics are damaged.
    """
    if not (run / METRICS).is_file():
        return None
    from folio.training.loop import FINISHED

    lines = read_metrics(run)
    for line in reversed(lines):
        if line.get("event") == FINISHED:
            return ("finished", str(line.get("reason", ""))) if _is_saved(run, line["step"]) else None
        if line.get("event") == "diverged":
            return "diverged", str(line["reason"])
        if line.get("event") != "not_finite":
            return None
    return None


def _is_saved(run: Path, step: int) -> bool:
    try:
        read_manifest(run / "checkpoints" / f"step-{step:08d}", CHECKPOINT)
    except ArtifactError:
        return False
    return True


@dataclass
class RunWatch:
    """Follows the end of a run's ``metrics.jsonl``: its last ``step``, and the last losses that it tells of."""

    run: Path
    step: int = 0
    train_nats: float = math.nan
    validation_nats: float = math.nan
    elapsed_s: float = 0.0

    def look(self) -> None:
        """See what is new; a file that is not there yet, or a line half written, is for the next look."""
        try:
            with open(self.run / METRICS, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - TAIL_BYTES))
                lines = file.read().split(b"\n")
        except OSError:
            return
        for raw in lines:
            try:
                line = json.loads(raw)
            except ValueError:
                continue
            if isinstance(line, dict):
                self._heed(line)

    def _heed(self, line: dict[str, Any]) -> None:
        nats = line.get("nats_per_token")
        self.step = int(line.get("step", self.step))
        self.elapsed_s = float(line.get("elapsed_s") or self.elapsed_s)
        if line.get("kind") == "train":
            self.train_nats = math.nan if nats is None else float(nats)
        if line.get("kind") == "validation":
            self.validation_nats = math.nan if nats is None else float(nats)
