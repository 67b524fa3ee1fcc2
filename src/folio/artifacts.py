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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from folio.checksums import FileRecord, check_files, record_of
from folio.errors import ArtifactError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint"
"""Kind of an artefact that holds a model or an adapter in a folder so named, and what resuming needs in ``state``."""
MODEL_PART, ADAPTER_PART = "model", "adapter"


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
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
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
    if os.path.ismount(path):
        raise ArtifactError(f"'{path}' is a mount point, which cannot be renamed", "Choose a folder inside it.")
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    with suppress(ArtifactError):
        if allowed_kind is not None and read_manifest(path).kind == allowed_kind:
            return
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
        article = "an" if what[0] in "aeiou" else "a"
        raise ArtifactError(f"'{folder}' is not {article} {what} folder: it has no {MANIFEST}", "Check the path.")
    try:
        content = path.read_bytes()
        manifest = Manifest.model_validate_json(content)
    except (ValidationError, OSError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ArtifactError(f"'{path}' is damaged: {reason}", "Make the folder again.") from None
    if manifest.format_version != FORMAT_VERSION:
        raise ArtifactError(
            f"'{folder}' has format version {manifest.format_version}; this Folio reads version {FORMAT_VERSION}",
            "Use the Folio version that wrote it, or make the folder again.",
        )
    if not (manifest.is_as_written and content.endswith(b"}\n")):
        raise ArtifactError(f"'{path}' is damaged: its content is not what was written", "Make the folder again.")
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(f"'{folder}' holds a {manifest.kind}, not a {kind}", "Check the path.")
    return manifest


def verify(folder: Path, kind: str | None = None, on_progress: Callable[[int], None] | None = None) -> Manifest:
    """Compare every file that the manifest names with its size and sha256; see :func:`check_files`."""
    manifest = read_manifest(folder, kind)
    check_files(folder, manifest.files, f"Make the {manifest.kind} again, or restore what is damaged.", on_progress)
    return manifest


def verify_part(folder: Path, used: Iterable[str], *, whole: bool = False) -> None:
    """Compare the files of ``folder`` that are about to be ``used`` with the manifest that speaks of them, if one does.

    That is the folder's own or, for the model or adapter in a checkpoint, the checkpoint's. A folder that others made
    has none and is taken as it is. ``whole`` compares all that it names there but the card, which people edit.
    :class:`ArtifactError` for a file that is damaged, missing, or used without being named.
    """
    found = _manifest_over(folder)
    if found is None:
        return
    manifest, prefix = found
    recorded = {name.removeprefix(prefix): file for name, file in manifest.files.items() if name.startswith(prefix)}
    used = set(used)
    for name in sorted(used - recorded.keys()):
        if (folder / name).exists():
            raise ArtifactError(f"'{folder / name}' is none of the files that its manifest names", "Remove it.")
    chosen = {name: file for name, file in recorded.items() if name in used or (whole and name != "README.md")}
    changed = "" if prefix else f" If it was changed on purpose, remove '{folder / MANIFEST}'."
    check_files(folder, chosen, f"Restore it, or make the {manifest.kind} again.{changed}")


def _manifest_over(folder: Path) -> tuple[Manifest, str] | None:
    """The manifest that speaks of the files of ``folder``, and what it puts before their names."""
    parts = (MODEL_PART, ADAPTER_PART)
    part = folder if folder.name in parts else folder.resolve()
    home = part.parent
    # state/ tells a checkpoint whose manifest is gone, which is refused, from a folder that never had one
    if part.name in parts and ((home / "state").is_dir() or _has_manifest(home)):
        manifest = read_manifest(home)
        if manifest.kind == CHECKPOINT:
            return manifest, f"{part.name}/"
    return (read_manifest(folder), "") if _has_manifest(folder) else None


def _has_manifest(folder: Path) -> bool:
    """Whether ``folder`` has a manifest of ours, sound or damaged; other programs call their files so too."""
    path = folder / MANIFEST
    if not path.is_file():
        return False
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError):
        return True
    return isinstance(content, dict) and bool({"seal", "format_version"} & content.keys())


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
