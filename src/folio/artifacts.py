"""Folders on disk: written beside their place, synced, renamed into it, and described by ``manifest.json``.

A reader never meets half a folder: until the rename it has another name, and the manifest with every file's size and
sha256 is written last.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from folio.errors import ArtifactError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


class FileRecord(BaseModel):
    """Size in bytes and sha256 of one file of an artefact."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bytes: int
    sha256: str


class Parent(BaseModel):
    """An artefact that this one was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    id: str


class Manifest(BaseModel):
    """What an artefact is. ``id`` is the sha256 of all but ``environment`` and ``seal``: equal content, equal id."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    format_version: int
    config: dict[str, Any]
    parents: tuple[Parent, ...] = ()
    files: dict[str, FileRecord]
    environment: dict[str, Any]
    seal: str = ""
    """sha256 of all the rest, as written: a changed byte anywhere in the manifest shows."""

    @property
    def id(self) -> str:
        return self._digest({"environment", "seal"})

    def sealed(self) -> Manifest:
        return self.model_copy(update={"seal": self._digest({"seal"})})

    @property
    def is_as_written(self) -> bool:
        return self.seal == self._digest({"seal"})

    def _digest(self, without: set[str]) -> str:
        content = json.loads(self.model_dump_json(exclude=without))
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_of(path: Path) -> FileRecord:
    return FileRecord(bytes=path.stat().st_size, sha256=sha256_of(path))


def sync(path: Path) -> None:
    """Force a file's content, or a folder's entries, to the disk (a no-op for folders where the system cannot)."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, content: str | bytes) -> None:
    """Replace one file atomically: at any moment the old content or the new one is there, never a mixture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: Path, *, replace: str | None = None) -> Iterator[Path]:
    """Fill a temporary folder that becomes ``path`` when the block ends, and vanishes if it fails.

    A ``path`` that already exists and is not empty is refused, unless it is an artefact of kind ``replace``.
    """
    refuse_occupied(path, allowed_kind=replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.tmp-"))
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            sync(file)
        sync(temporary)
        os.chmod(temporary, 0o755)
        _swap_in(temporary, path)
        sync(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _swap_in(temporary: Path, path: Path) -> None:
    if not path.exists():
        os.rename(temporary, path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old-"))
    os.rename(path, old / "folder")
    try:
        os.rename(temporary, path)
    except BaseException:
        os.rename(old / "folder", path)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def refuse_occupied(path: Path, *, allowed_kind: str | None = None) -> None:
    """Raise :class:`ArtifactError` if ``path`` holds anything but an artefact of ``allowed_kind``."""
    if not path.exists():
        return
    if path.is_dir():
        if not any(path.iterdir()):
            return
        if allowed_kind is not None:
            try:
                if read_manifest(path).kind == allowed_kind:
                    return
            except ArtifactError:
                pass
    raise ArtifactError(f"'{path}' already exists and holds something else", "Choose another folder, or remove it.")


def write_manifest(
    folder: Path,
    kind: str,
    config: Mapping[str, Any],
    *,
    parents: tuple[Parent, ...] = (),
    device: str = "cpu",
) -> Manifest:
    """Describe every file now under ``folder`` and write its ``manifest.json``.

    A path of this machine in ``config`` is kept by its last name only: a manifest tells nothing of where it was made.
    """
    files = {
        file.relative_to(folder).as_posix(): record_of(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file != folder / MANIFEST
    }
    manifest = Manifest(
        kind=kind,
        format_version=FORMAT_VERSION,
        config=_without_absolute_paths(dict(config)),
        parents=parents,
        files=files,
        environment={**environment(), "device": device},
    )
    return seal_manifest(folder, manifest)


def seal_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write ``manifest`` as ``folder``'s, sealed."""
    manifest = manifest.sealed()
    write_file(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def _without_absolute_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_absolute_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_absolute_paths(item) for item in value]
    if isinstance(value, str | Path) and os.path.isabs(value) and os.path.exists(value):
        return Path(value).name
    return value


def read_manifest(folder: Path, kind: str | None = None) -> Manifest:
    """The manifest of ``folder``; :class:`ArtifactError` if there is none, it is damaged, or of another kind."""
    path = folder / MANIFEST
    if not folder.exists():
        raise ArtifactError(f"'{folder}' does not exist", "Check the path.")
    if not path.is_file():
        what = kind or "Folio"
        raise ArtifactError(f"'{folder}' is not a {what} folder: it has no {MANIFEST}", "Check the path.")
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ArtifactError(f"'{path}' is damaged: {reason}", "Make the folder again.") from None
    if manifest.format_version != FORMAT_VERSION:
        raise ArtifactError(
            f"'{folder}' has format version {manifest.format_version}; this Folio reads version {FORMAT_VERSION}",
            "Use the Folio version that wrote it, or make the folder again.",
        )
    if not manifest.is_as_written:
        raise ArtifactError(f"'{path}' is damaged: its content is not what was written", "Make the folder again.")
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(f"'{folder}' holds a {manifest.kind}, not a {kind}", "Check the path.")
    return manifest


def verify(folder: Path, kind: str | None = None) -> Manifest:
    """Compare every file that the manifest names with its size and sha256; :class:`ArtifactError` at a fault."""
    manifest = read_manifest(folder, kind)
    for name, record in manifest.files.items():
        file = folder / name
        if not file.is_file():
            raise ArtifactError(f"'{file}' is missing", f"Make the {manifest.kind} again, or restore the file.")
        found = file.stat().st_size
        if found != record.bytes:
            raise ArtifactError(
                f"'{file}' is damaged: {found:,} bytes where the manifest says {record.bytes:,}",
                f"Make the {manifest.kind} again, or restore the file.",
            )
        if sha256_of(file) != record.sha256:
            raise ArtifactError(
                f"'{file}' is damaged: its sha256 is not the manifest's",
                f"Make the {manifest.kind} again, or restore the file.",
            )
    return manifest


@cache
def environment() -> dict[str, Any]:
    """Python, torch and Folio versions, the platform, and the git commit of the working folder if it has one."""
    versions = {}
    for name, distribution in (("folio", "folio-lm"), ("torch", "torch")):
        try:
            versions[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        **versions,
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
