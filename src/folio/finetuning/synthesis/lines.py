"""Append-only files of JSON lines about requests, each forced to the disk before the writer goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from folio.errors import ArtifactError


class Lines:
    """One file: what it held when it was opened, and lines added since.

    Half a line at the end, left by a kill, is cut off on opening; a whole one without its line break gets it.
    :class:`ArtifactError` names any other line that is no JSON object with the ``required`` keys and counts of tokens.
    """

    def __init__(self, path: Path, required: tuple[str, ...]) -> None:
        self.path = path
        self.read: list[dict[str, Any]] = _read(path, required)
        self._file: BinaryIO | None = None

    def append(self, line: dict[str, Any]) -> None:
        """Add a line; it is on the disk when this returns."""
        if self._file is None:
            self._file = open(self.path, "ab")  # noqa: SIM115 - closed by close()
        # one write of the whole line: a kill between two would tear it
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _read(path: Path, required: tuple[str, ...]) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with open(path, "rb+") as file:
        content = file.read()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            if _parsed(content[end:], required) is None:
                file.truncate(end)
                content = content[:end]
            else:
                file.write(b"\n")
    found = []
    for number, raw in enumerate(content.removesuffix(b"\n").split(b"\n") if content else [], 1):
        line = _parsed(raw, required)
        if line is None:
            keys = ", ".join(required)
            raise ArtifactError(
                f"'{path}' is damaged: line {number} is not a JSON object with {keys}",
                "Remove that line, or restore the file.",
            )
        found.append(line)
    return found


def _parsed(raw: bytes, required: tuple[str, ...]) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not line.keys() >= set(required):
        return None
    usage = line.get("usage", line)
    if not isinstance(usage, dict):
        return None
    numbers = (line["attempt"], usage.get("prompt_tokens"), usage.get("completion_tokens"))
    return line if all(isinstance(number, int) and number >= 0 for number in numbers) else None
