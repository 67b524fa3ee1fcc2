"""Whether files are as they were written: by recorded size and sha256, or by the seal that a JSON file carries."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import Any

from pydantic import BaseModel, ConfigDict

from folio.errors import ArtifactError

BLOCK_BYTES = 4 << 20
THREADS = 4
"""Files that are hashed at once: hashing lets go of the interpreter, and few disks give more than four of them."""
NAMED = 4
"""Damaged files that one message names; more are counted."""
SEAL = "seal"


class FileRecord(BaseModel):
    """Size in bytes and sha256 of one file of an artefact; the sha256 is empty where none was recorded."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bytes: int
    sha256: str


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_of(path: Path) -> FileRecord:
    return FileRecord(bytes=path.stat().st_size, sha256=sha256_of(path))


def check_files(
    folder: Path, files: Mapping[str, FileRecord], remedy: str, on_progress: Callable[[int], None] | None = None
) -> None:
    """Compare files under ``folder`` with what was recorded of them; one :class:`ArtifactError` names the damaged ones.

    Sizes come first, then contents, several files at once. ``on_progress`` is told the bytes read so far, by the
    calling thread.
    """
    faults = [fault for name, record in files.items() if (fault := _missing_or_of_another_size(folder / name, record))]
    faults = faults or _changed(folder, files, on_progress or (lambda read_bytes: None))
    if faults:
        more = f"; and {len(faults) - NAMED} more files" if len(faults) > NAMED else ""
        raise ArtifactError("; ".join(faults[:NAMED]) + more, remedy)


def _missing_or_of_another_size(path: Path, record: FileRecord) -> str:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return f"'{path}' is missing"
    except OSError as error:
        return f"'{path}' cannot be read: {error.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return f"'{path}' is missing"
    if found.st_size != record.bytes:
        return f"'{path}' is damaged: {found.st_size:,} bytes where the manifest says {record.bytes:,}"
    return ""


def _changed(folder: Path, files: Mapping[str, FileRecord], on_progress: Callable[[int], None]) -> list[str]:
    read_bytes = dict.fromkeys(files, 0)
    stop = Event()

    def fault(name: str, expected: str) -> str:
        digest, block = hashlib.sha256(), bytearray(min(BLOCK_BYTES, max(1, files[name].bytes)))
        try:
            with open(folder / name, "rb", buffering=0) as file:
                while not stop.is_set() and (count := file.readinto(block)):
                    digest.update(memoryview(block)[:count])
                    read_bytes[name] += count
        except OSError as error:
            return f"'{folder / name}' cannot be read: {error.strerror}"
        return (
            "" if digest.hexdigest() == expected else f"'{folder / name}' is damaged: its sha256 is not the manifest's"
        )

    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        try:
            answers = [pool.submit(fault, name, record.sha256) for name, record in files.items() if record.sha256]
            waiting = set(answers)
            while waiting:
                waiting = wait(waiting, timeout=0.2).not_done
                on_progress(sum(read_bytes.values()))
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [answer.result() for answer in answers if answer.result()]


def sealed_json(content: Mapping[str, Any]) -> str:
    """``content`` as the text of a JSON file that ends with its own ``seal``: the sha256 of the rest."""
    assert SEAL not in content
    plain = json.loads(json.dumps(content))
    seal = hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return json.dumps({**plain, SEAL: seal}, indent=2, ensure_ascii=False) + "\n"


def read_sealed_json(path: Path, remedy: str = "Restore the file.") -> dict[str, Any]:
    """What was given to :func:`sealed_json`, without the seal; :class:`ArtifactError` if a single byte has changed."""
    try:
        raw = path.read_bytes()
        content = json.loads(raw)
    except FileNotFoundError:
        raise ArtifactError(f"'{path}' does not exist", remedy) from None
    except OSError as error:
        raise ArtifactError(f"'{path}' cannot be read: {error.strerror}", remedy) from None
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"'{path}' is damaged: {error}", remedy) from None
    if not isinstance(content, dict) or SEAL not in content:
        raise ArtifactError(f"'{path}' is damaged: it does not hold what was written", remedy)
    del content[SEAL]
    if sealed_json(content).encode() != raw:
        raise ArtifactError(f"'{path}' is damaged: its content is not what was written", remedy)
    return content
