"""The Hugging Face hub as a place where files are: whether it answers, and one file of a dataset."""

from __future__ import annotations

import errno
import threading
import urllib.error
import urllib.request
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from folio.errors import REFUSALS, ConfigError, Unreachable, require

PATIENCE_S = 1.5
"""How long an address may take to answer where a person waits; the hub's own client tries for most of a minute."""


def answers(url: str, timeout_s: float) -> bool:
    """Whether an address gives any answer within so many seconds, the look-up of its name included."""
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout_s).close()
        except urllib.error.HTTPError as answer:
            answer.close()
        except (OSError, ValueError):
            return
        answered.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(timeout_s)
    return answered.is_set()


def connection_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises where an answer is missing, refuses, or breaks off on its way.

    The client passes on errors of the HTTP package below it, which is another one in each of its generations.
    """
    errors: Any = require("huggingface_hub.errors", "hf")
    below = (kind for kind in errors.HfHubHTTPError.__bases__ if kind is not Exception)
    return (OSError, errors.HfHubHTTPError, *below)


def refused_here(error: Exception) -> bool:
    """Whether it is this machine that refuses, as a full disk does, rather than the network."""
    return isinstance(error, OSError) and error.errno in {*REFUSALS, errno.EACCES, errno.EPERM}


def dataset_file(repository: str, revision: str, file: str, patience_s: float = PATIENCE_S) -> Path:
    """The one file of a dataset that the pattern ``file`` means, from the hub's cache or else fetched into it.

    ``revision`` is a commit, which fixes the content, or a branch. :class:`Unreachable` if the hub gives no answer
    within ``patience_s``; also if the repository has no such file, or more than one. :class:`MissingExtra` without the
    package huggingface_hub.
    """
    hub: Any = require("huggingface_hub", "hf")
    constants: Any = require("huggingface_hub.constants", "hf")
    errors: Any = require("huggingface_hub.errors", "hf")
    what = f"{file} of hub dataset {repository}"

    def look(local: bool) -> list[Path]:
        folder = Path(
            hub.snapshot_download(
                repository, repo_type="dataset", revision=revision, allow_patterns=[file], local_files_only=local
            )
        )
        found = (path for path in folder.rglob("*") if path.is_file())
        return [path for path in found if fnmatch(path.relative_to(folder).as_posix(), file)]

    try:
        found = look(local=True)
    except errors.HFValidationError:
        raise ConfigError(
            f"'{repository}' is no name of a hub dataset", "Name it as the hub does: organization/name."
        ) from None
    except errors.LocalEntryNotFoundError:
        found = []
    if not found:
        if constants.HF_HUB_OFFLINE:
            raise Unreachable(f"{what}: not in the hub's cache, and HF_HUB_OFFLINE is set", "Unset HF_HUB_OFFLINE.")
        if not answers(constants.ENDPOINT, patience_s):
            raise Unreachable(f"{what}: not in the hub's cache, and the hub does not answer", "Connect to the network.")
        try:
            found = look(local=False)
        except connection_errors() as error:
            if refused_here(error):
                raise
            raise Unreachable(f"{what}: {(str(error).splitlines() or [type(error).__name__])[0]}") from None
    if len(found) != 1:
        raise Unreachable(f"{what}: {len(found)} files there have that name, one is needed")
    return found[0]
