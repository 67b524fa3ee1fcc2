"""Errors that a user can mend: one line that says what is wrong, what was given, what to do.

UserError                      exit code 2
├── ConfigError                an unknown key, a wrong type, an impossible combination
├── DataError                  text or ids that cannot be read or are too few
├── ArtifactError              a folder on disk that is missing, damaged or of another kind
├── MissingExtra               an optional package is needed
├── Unreachable                nothing that was tried over the network answered
├── DataLost                   data that were there stopped coming, and did not come back in time
├── Diverged                   training reached a loss or gradient that is not a number, or left out too many steps
└── RankLost                   another process of the same job died or does not answer
Interrupted                    exit code 3: stopped on request, everything saved
BrokenPromise                  exit code 1: Folio was put to the test and failed it

Anything else that escapes is a bug: exit code 1, with its traceback.
"""

from __future__ import annotations

import difflib
import errno
import importlib
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any


class UserError(Exception):
    """Something the user can put right.

    ``problem`` says what is wrong and what was given, ``remedy`` what to do about it. ``str()`` gives the text the
    command line prints after ``folio:``, the remedy on its own indented line.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n       {self.remedy}" if self.remedy else self.problem


class ConfigError(UserError):
    """A configuration that cannot be: an unknown key, a wrong type, values that contradict each other."""


class DataError(UserError):
    """Text or ids that cannot be read, or are too few for what was asked."""


class ArtifactError(UserError):
    """A folder on disk that is missing, damaged, of another kind, or made for something else."""


class MissingExtra(UserError):
    """An optional package is needed; the remedy is the pip command that brings it, and that of a checkout."""


class Unreachable(UserError):
    """Nothing that was tried over the network answered; the problem lists what was tried."""


class DataLost(UserError):
    """Data that were there when training began stopped coming, for longer than it was to wait."""


class Diverged(UserError):
    """Training reached a loss that is no number, ran away, or left out too many steps; the problem says at which."""


class RankLost(UserError):
    """Another process of the same job died or does not answer; the remedy says where to read why."""


class Interrupted(Exception):
    """The user or the system asked to stop, and everything was saved. ``str()`` says how to go on."""


class BrokenPromise(Exception):
    """Folio was put to the test and failed it: exit code 1, with what was found as ``data`` instead of a traceback."""

    def __init__(self, problem: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(problem)
        self.data = dict(data or {})


REFUSALS = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk is full", errno.EROFS: "the disk is read-only"}
"""What it means to a person when the system refuses to write with one of these numbers."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional ``module``, or raise :class:`MissingExtra` naming the ``extra`` that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtra(
            f"this needs the package '{module.split('.')[0]}', which is not installed",
            f"Install it with: pip install 'folio-lm[{extra}]'; in a checkout: "
            f"pip install -c constraints.txt '.[{extra}]'",
        ) from None


def nearest(name: str, options: Iterable[str], *, least: float = 0.5) -> str | None:
    """The option most like ``name`` (difflib ratio at ``least``), or None; ``-`` and ``_`` count as equal."""
    by_key = {option.replace("-", "_").lower(): option for option in options}
    match = difflib.get_close_matches(name.replace("-", "_").lower(), by_key, n=1, cutoff=least)
    return by_key[match[0]] if match else None
