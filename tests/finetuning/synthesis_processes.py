"""``folio synthesize`` against the faulty endpoint: in this process, or as one that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from faulty_endpoint import KEY, FaultyEndpoint

from folio.cli import main

FOLIO = [sys.executable, "-W", "error", "-m", "folio"]


def environment(world: FaultyEndpoint, key: str = KEY) -> dict[str, str]:
    return {"OPENAI_BASE_URL": world.url, "OPENAI_API_KEY": key}


@contextmanager
def started(folder: Path, world: FaultyEndpoint, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own, in ``folder``; it does not outlive the block."""
    with subprocess.Popen(
        [*FOLIO, "synthesize", "spec.toml", "--out", "out", "--yes", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment(world)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Here:
    """The command in this process, with what it printed and everything it left on the disk."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys
        self.out = folder / "out"
        monkeypatch.chdir(folder)
        for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL"):
            monkeypatch.delenv(name, raising=False)

    def use(self, world: FaultyEndpoint, key: str = KEY) -> None:
        for name, value in environment(world, key).items():
            self.monkeypatch.setenv(name, value)

    def spec(self, text: str) -> None:
        (self.folder / "spec.toml").write_text(text)

    def __call__(self, *arguments: str, yes: bool = True) -> int:
        code = main(["synthesize", "spec.toml", "--out", "out", *(["--yes"] if yes else []), *arguments])
        captured = self.capsys.readouterr()
        self.printed, self.told = captured.out, captured.err
        assert "Traceback" not in self.told, self.told
        return code

    def everything_written(self) -> str:
        """What was printed, and every byte below the folder, as one text."""
        files = [path.read_text(errors="replace") for path in self.folder.rglob("*") if path.is_file()]
        return "\n".join([self.printed, self.told, *files])


def records(out: Path, name: str = "examples.jsonl") -> list[dict[str, Any]]:
    path = out / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def summary(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return content


def spent(out: Path) -> int:
    tokens = summary(out)["spent"]
    return int(tokens["prompt_tokens"]) + int(tokens["completion_tokens"])
