"""Who does which share of the parts, and the word that the process of a share leaves: of itself, and of its error."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from folio.errors import DataError, UserError
from folio.shards.machines.config import EngineConfig
from folio.shards.parts.journal import process_file

TASKS_A_NODE = 128
"""Shares for each node unless the user chooses: more than it has cores, so that they end at about the same time."""
PARTS_A_TASK = 4
"""No fewer for each share unless the user chooses, since beginning one takes a second or more."""
TASKS_A_WORKER = 2
"""The same for Ray, which starts a process for each share."""


def tasks_of(engine: EngineConfig, workers: int, parts: int) -> int:
    """Into how many shares the parts are divided; the same on every node, whatever its ``workers``."""
    if engine.kind == "ray" and workers:
        return min(parts, engine.tasks or TASKS_A_WORKER * workers)
    return min(parts, engine.tasks or max(engine.nodes, min(parts // PARTS_A_TASK, TASKS_A_NODE * engine.nodes)))


def ranks_of(node: int, nodes: int, tasks: int) -> range:
    """The shares of one node, as even as they can be."""
    return range(node * tasks // nodes, (node + 1) * tasks // nodes)


def failure_file(folder: Path, rank: int) -> Path:
    """Where a rank that failed leaves its error, until it is begun again."""
    return folder / f"rank-{rank:05d}.failed"


def written_down(error: UserError) -> str:
    return json.dumps([error.problem, error.remedy])


def lost_ranks(folder: Path, ranks: range) -> list[int]:
    """Those of this machine's ``ranks`` whose process is gone without a word, such as for want of memory."""
    return [rank for rank in ranks if _is_lost(process_file(folder, rank))]


def forget(folder: Path, ranks: range) -> None:
    """Remove what processes that are long gone left of themselves."""
    for rank in ranks:
        process_file(folder, rank).unlink(missing_ok=True)


class Failures:
    """The errors that ranks of any node have left since this was made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._old = self._there()

    def new(self) -> DataError | None:
        """One that is not of an earlier sitting."""
        for path, changed in sorted(self._there().items()):
            if self._old.get(path) != changed:
                with suppress(OSError, ValueError):
                    problem, remedy = json.loads(path.read_text(encoding="utf-8"))
                    return DataError(problem, remedy)
        return None

    def _there(self) -> dict[Path, int]:
        found = {}
        for path in self._folder.glob("rank-*.failed"):
            with suppress(OSError):
                found[path] = path.stat().st_mtime_ns
        return found


def _is_lost(path: Path) -> bool:
    try:
        process = int(path.read_text())
        os.kill(process, 0)
    except (OSError, ValueError) as error:
        return isinstance(error, ProcessLookupError) and path.exists()
    return False
