"""Where a task's file is: given, named data, or a file of a hub dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from folio.corpus.hub import PATIENCE_S, dataset_file
from folio.corpus.mirrors import obtain, row_of
from folio.errors import DataError, MissingExtra, Unreachable
from folio.evaluation.tasks.description import Source


@dataclass(frozen=True)
class Located:
    """A file, and where it came from in words that hold on any machine."""

    path: Path
    origin: str


def locate(task: str, source: Source, given: Path | None, flag: str) -> Located:
    """The file that was given, or else the first place of ``source`` that has it; nothing takes two seconds to fail.

    ``flag`` is what to say to give the file. :class:`DataError` for a given file that is not there and for a task that
    names no place, :class:`Unreachable`, with what was tried, if no place has it.
    """
    if given is not None:
        if not given.expanduser().exists():
            raise DataError(f"'{given}', given for '{task}', does not exist", f"Check the path: {flag}.")
        return Located(given.expanduser(), "given")
    tried = []
    patience_s = PATIENCE_S / ((source.named is not None) + (source.repository is not None) or 1)
    remedy = f"Give the file: {flag}."
    if source.named is not None:
        try:
            folder = obtain(source.named, patience_s=patience_s).folder
            return Located(folder / row_of(source.named).files[0].name, f"named data '{source.named}'")
        except Unreachable as error:
            tried.append(error.problem)
            remedy += f" Or fetch it where there is a network: folio corpus get {source.named}"
    if source.repository is not None:
        try:
            path = dataset_file(source.repository, source.revision, source.file, patience_s)
            return Located(path, f"hub dataset {source.repository} at {source.revision}")
        except Unreachable as error:
            tried.append(error.problem)
        except MissingExtra as error:
            tried.append(f"hub dataset {source.repository}: {error.problem} ({error.remedy})")
    if not tried:
        raise DataError(f"'{task}' does not say where its file is", f"Give it: {flag}.")
    raise Unreachable(f"no file for '{task}': " + "; ".join(tried), remedy)
