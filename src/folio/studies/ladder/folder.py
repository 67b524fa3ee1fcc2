"""A ladder's folder: what it was begun with, and each measurement as it is finished, so that a killed one goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from folio.artifacts import write_file
from folio.checksums import read_sealed_json, sealed_json
from folio.errors import ArtifactError

PLAN, MEASURED = "plan.json", "measured"
REMEDY = "Remove it, and run the same command again to measure it anew."


class LadderFolder:
    """What lies under ``path``; nothing in it changes once it is there, but for what the plan still lacks."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The plan so far: empty but for ``options`` in a new folder.

        :class:`ArtifactError` for a folder of something else, or a ladder that was begun with other options.
        """
        file = self.path / PLAN
        if not file.exists():
            if self.path.exists() and any(one.name != ".lock" for one in self.path.iterdir()):
                raise ArtifactError(
                    f"'{self.path}' holds something else than a ladder", "Choose another folder with --to."
                )
            self.write_plan({"options": dict(options)})
        plan = read_sealed_json(file, "Remove the folder, and begin anew.")
        for key, value in options.items():
            if plan["options"].get(key) != value:
                before = plan["options"].get(key)
                raise ArtifactError(
                    f"'{self.path}' was begun with --{key} {'(none)' if before is None else before}, not {value}",
                    "Leave it as it was, or measure into another folder with --to.",
                )
        return plan

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        write_file(self.path / PLAN, sealed_json(plan))

    def read(self, name: str) -> dict[str, Any] | None:
        """A finished measurement, None if there is none; :class:`ArtifactError` if it is damaged."""
        file = self.path / MEASURED / f"{name}.json"
        return read_sealed_json(file, REMEDY) if file.exists() else None

    def write(self, name: str, measurement: Mapping[str, Any]) -> None:
        write_file(self.path / MEASURED / f"{name}.json", sealed_json(measurement))

    def spent_s(self) -> float:
        """Seconds that all measurements so far took."""
        files = (self.path / MEASURED).glob("*.json")
        return sum(float(read_sealed_json(file, REMEDY).get("took_s", 0.0)) for file in files)


def time_name(rung: str) -> str:
    return f"time-{rung}"


def loss_name(rung: str, seed: int) -> str:
    return f"loss-{rung}-{seed}"
