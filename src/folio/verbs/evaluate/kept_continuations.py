"""Continuations on disk as soon as a model has written all of its own, to be taken up by the same command again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from folio.artifacts import write_file
from folio.evaluation.oracle.judge import Continuation
from folio.evaluation.oracle.prompts import Prompt

FOLDER = "continuations"


@dataclass(frozen=True)
class Kept:
    """One model's file: a first line with the ``settings`` it was written by (JSON values), then a line a prompt."""

    file: Path
    settings: Mapping[str, Any]

    def read(self, prompts: Sequence[Prompt]) -> list[list[Continuation]] | None:
        """What was written after these prompts by these settings; None if it was not, or cannot be read."""
        try:
            head, *lines = (json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines())
            if head != json.loads(json.dumps(self.settings)) or [line["id"] for line in lines] != [
                prompt.id for prompt in prompts
            ]:
                return None
            return [[Continuation(one["text"], one["seed"], one["facts"]) for one in line["samples"]] for line in lines]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, prompts: Sequence[Prompt], written: Sequence[Sequence[Continuation]]) -> None:
        """Put the file in place, whole."""
        lines: list[Mapping[str, Any]] = [self.settings]
        for prompt, texts in zip(prompts, written, strict=True):
            samples = [{"text": one.text, "seed": one.seed, "facts": dict(one.facts)} for one in texts]
            lines.append({"id": prompt.id, "samples": samples})
        write_file(self.file, "".join(json.dumps(line) + "\n" for line in lines))
