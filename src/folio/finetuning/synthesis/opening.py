"""Whose folder it is: one process at a time, and examples of one spec alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from folio.artifacts import write_file
from folio.errors import ArtifactError
from folio.finetuning.synthesis.budget import Budget
from folio.finetuning.synthesis.folder import EXAMPLES, FILTERED, JOURNAL, SPEC, SynthesisFolder
from folio.finetuning.synthesis.spec import Spec
from folio.locks import locked

FORMAT_VERSION = 1


@contextmanager
def opened_folder(path: Path, spec: Spec) -> Iterator[SynthesisFolder]:
    """The folder for ``spec``, made if there is none; held alone until the block ends.

    :class:`ArtifactError` if it holds something else, examples of another spec, or is in use.
    """
    if path.exists() and not path.is_dir():
        raise ArtifactError(f"'{path}' is a file", "Choose a folder with --out.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent / f".{path.name}.lock", wait=False) as mine:
        if not mine:
            raise ArtifactError(f"another process is writing to '{path}'", "Wait for it, or choose another --out.")
        _claim(path, spec)
        folder = SynthesisFolder(path, spec, Budget(spec.budget))
        try:
            yield folder
        finally:
            folder.close()
            if folder.attempts == 0:
                _discard(path)


def _discard(path: Path) -> None:
    """Remove a folder in which nothing was asked for."""
    for name in (SPEC, EXAMPLES, FILTERED, JOURNAL):
        (path / name).unlink(missing_ok=True)
    with suppress(OSError):  # something of the user's own is in it
        path.rmdir()


def _claim(path: Path, spec: Spec) -> None:
    """Compare the folder's spec with this one, or put this one into an empty folder."""
    file = path / SPEC
    if not file.exists():
        if path.exists() and any(not entry.name.startswith(".") for entry in path.iterdir()):
            raise ArtifactError(f"'{path}' holds something else: it has no {SPEC}", "Choose another --out.")
        path.mkdir(exist_ok=True)
        content = {"format_version": FORMAT_VERSION, **spec.identity()}
        write_file(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        return
    try:
        content = json.loads(file.read_bytes())
        version = content.pop("format_version")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ArtifactError(f"'{file}' is damaged", "Restore it, or choose another --out.") from None
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"'{file}' has format version {version}; this Folio reads {FORMAT_VERSION}", "Update Folio."
        )
    if differing := _differences(content, spec.identity()):
        raise ArtifactError(
            f"'{path}' holds examples of another spec: {', '.join(differing)} differ{'s' * (len(differing) == 1)}",
            "Choose another --out, or the spec that it was made with.",
        )


def _differences(one: Any, other: Any, prefix: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = dict.fromkeys([*one, *other])
        return [
            found
            for key in keys
            for found in _differences(one.get(key), other.get(key), f"{prefix}.{key}" if prefix else key)
        ]
    return [] if one == other else [prefix]
