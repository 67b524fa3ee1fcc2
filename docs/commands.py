"""Writes ``commands.md``, the command reference, from ``--help``: ``make docs``."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from folio.cli import VERBS, actions_of, dispatch

WIDTH = "100"
"""Columns of a help page in the reference."""


def reference() -> str:
    """The whole page as Markdown: every verb and action with its ``--help``."""
    return "\n".join(["# Commands", "", "Made from `--help` by `make docs`.", "", *sections()])


def sections() -> Iterator[str]:
    yield from section([])
    for verb in VERBS:
        actions = actions_of(verb)
        if "" not in actions:
            yield from section([verb])
        for name in actions:
            yield from section([verb, name] if name else [verb])


def section(args: list[str]) -> Iterator[str]:
    level = "###" if len(args) > 1 else "##"
    yield from (f"{level} {' '.join(['folio', *args])}", "", "```text", help_text(args), "```", "")


def help_text(args: list[str]) -> str:
    """What ``folio ARGS --help`` prints, at a fixed width."""
    out = io.StringIO()
    with patch.dict(os.environ, COLUMNS=WIDTH), contextlib.redirect_stdout(out):
        dispatch([*args, "--help"], quiet=False)
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(reference(), encoding="utf-8")
