"""``metrics.jsonl``: what a run did, one JSON object a line, appended and never rewritten.

Every line has a ``kind`` (train, validation, sample, event) and a ``step``. A line
``{"kind": "event", "event": "resumed", "step": S}`` supersedes the lines before it whose step is above ``S``.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from folio.errors import ArtifactError

METRICS = "metrics.jsonl"


class MetricsLog:
    """Appends lines to a ``metrics.jsonl``, each handed to the system at once: a kill loses at most the last.

    JSON has no NaN or infinity: such a value is written as null, followed by a line
    ``{"kind": "event", "event": "not_finite", "step": ..., "field": ..., "value": "nan"}``. Half a line, left by a
    kill at the end of the file, is cut off on opening.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _cut_torn_line(path)
        self._file = open(path, "a", encoding="utf-8", newline="\n")  # noqa: SIM115 - closed by close()

    def log(self, *, kind: str, step: int, **fields: Any) -> None:
        """Append one line. Floats keep every digit."""
        odd = {key: value for key, value in fields.items() if isinstance(value, float) and not math.isfinite(value)}
        lines = [{"kind": kind, "step": step, **fields, **dict.fromkeys(odd)}]
        for key, value in odd.items():
            event = {"kind": "event", "step": step, "event": "not_finite", "field": key, "value": str(float(value))}
            lines.append(event)
        self._file.write("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines))
        self._file.flush()

    def sync(self) -> None:
        """Force what was logged to the disk, so that a power cut cannot take it; flushing alone survives a kill."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(run: Path, name: str = METRICS) -> list[dict[str, Any]]:
    """The lines of a run that count, from the file of that ``name``: those that a resume superseded are left out.

    A last line without its newline, torn by a kill, is ignored if it is not whole. :class:`ArtifactError` if ``run`` is
    no run folder or another line is damaged, naming the line.
    """
    path = run / name
    if not path.is_file():
        problem = f"'{run}' is not a run: it has no {name}" if run.exists() else f"'{run}' does not exist"
        raise ArtifactError(
            problem, "Give the folder that training wrote (the one holding config.json and metrics.jsonl)."
        )
    *whole, rest = path.read_bytes().split(b"\n")
    effective: list[dict[str, Any]] = []
    for number, raw in enumerate([*whole, rest], 1):
        line = _parse(raw)
        if line is None:
            if number > len(whole):
                break
            raise ArtifactError(
                f"'{path}' is damaged: line {number} is not a JSON object with kind and step",
                "Remove that line, or restore the file.",
            )
        if line["kind"] == "event" and line.get("event") == "resumed":
            effective = [earlier for earlier in effective if earlier["step"] <= line["step"]]
        effective.append(line)
    return effective


def _parse(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    step = line.get("step") if isinstance(line, dict) else None
    if not isinstance(step, int) or not isinstance(line.get("kind"), str):
        return None
    return dict(line)


def _cut_torn_line(path: Path) -> None:
    """End the file with a newline: complete a whole last line, drop a torn one."""
    if not path.exists():
        return
    with open(path, "rb+") as file:
        content = file.read()
        end = content.rfind(b"\n") + 1
        if end == len(content):
            return
        if _parse(content[end:]) is None:
            file.truncate(end)
        else:
            file.write(b"\n")
