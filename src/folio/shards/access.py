"""How the ids of a file get into memory: by memory map, or by reading just what is asked for."""

from __future__ import annotations

import errno
import mmap
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from folio.shards.format import HEADER_BYTES, Header

Ids = NDArray[Any]
Access = Literal["map", "read"]
T = TypeVar("T")

NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "beegfs", "ceph", "davfs", "glusterfs", "gpfs", "lustre"),
    *("orangefs", "panfs", "pvfs2", "vboxsf", "virtiofs", "weka", "wekafs"),
}
"""File systems, as Linux names them, that may stall or fail for a while; and all of FUSE but ``fuseblk``, a disk."""
MOUNTS = Path("/proc/self/mountinfo")
MOST_OPEN = 4096
AROUND_BYTES = 128 << 10
"""What is fetched with a read whose surroundings are wanted soon: as much as Linux reads ahead by itself."""


def suitable_access(folder: Path, size_bytes: int) -> Access:
    """``read`` where ``folder`` is on a network file system or its ``size_bytes`` exceed the memory, else ``map``.

    A read that fails is an error that can be met; a mapped page that cannot be had ends the process (SIGBUS). A map
    also fetches what lies around a page, which is of use as long as it stays in memory.
    """
    kind = file_system_of(folder)
    on_network = kind is not None and (kind in NETWORK or kind == "fuse" or kind.startswith("fuse."))
    return "read" if on_network or size_bytes > (_memory_bytes() or size_bytes) else "map"


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def file_system_of(path: Path, mounts: Path = MOUNTS) -> str | None:
    """The type of the file system that ``path`` lies on, as proc_pid_mountinfo(5) has it; None where nobody says."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    place, found, longest = path.resolve(), None, -1
    for line in lines:
        about, _, rest = line.partition(" - ")
        point = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), about.split()[4]))
        if place.is_relative_to(point) and len(point.parts) >= longest:  # what is mounted over another comes later
            found, longest = rest.split()[0], len(point.parts)
    return found


class ShardFiles(ABC, Generic[T]):
    """Files of ids, opened when they are first read; those not read for the longest are closed when there are many."""

    def __init__(self, files: Sequence[tuple[Path, Header]]) -> None:
        self._files = files
        self._open: dict[int, T] = {}
        self._most_open = _most_open()

    def read(self, index: int, start: int, count: int) -> Ids:
        """``count`` ids of file ``index`` from its id ``start`` on, all of which it has; :class:`OSError`."""
        opened = self._open.pop(index, None)
        if opened is None:
            opened = self._opened(*self._files[index])
            while len(self._open) >= self._most_open:
                del self._open[next(iter(self._open))]
        self._open[index] = opened
        return self._part(opened, self._files[index][1], start, count)

    def forget(self, index: int) -> None:
        """Open the file anew when it is next read."""
        self._open.pop(index, None)

    @abstractmethod
    def _opened(self, path: Path, header: Header) -> T: ...

    @abstractmethod
    def _part(self, opened: T, header: Header, start: int, count: int) -> Ids: ...


class MappedFiles(ShardFiles[Ids]):
    """Views of memory maps: the system reads pages when they are touched, and keeps what is used."""

    def _opened(self, path: Path, header: Header) -> Ids:
        with open(path, "rb") as file:
            _refuse_other_size(file.fileno(), path, header)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, header.dtype, header.tokens, HEADER_BYTES)

    def _part(self, opened: Ids, header: Header, start: int, count: int) -> Ids:
        return opened[start : start + count]


class _Descriptor:
    """An open file, closed when nobody holds it any more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if hasattr(self, "number"):
            with suppress(OSError):  # a mount that is gone may say so here too; the number is free all the same
                os.close(self.number)


class ReadFiles(ShardFiles[_Descriptor]):
    """Copies of just the ids asked for; trouble with the file is an :class:`OSError`."""

    around = False
    """Whether what lies around each read is wanted soon, and worth being asked for with it."""

    def _opened(self, path: Path, header: Header) -> _Descriptor:
        opened = _Descriptor(path)
        _refuse_other_size(opened.number, path, header)
        return opened

    def _part(self, opened: _Descriptor, header: Header, start: int, count: int) -> Ids:
        size, offset = count * header.dtype.itemsize, HEADER_BYTES + start * header.dtype.itemsize
        if self.around and hasattr(os, "posix_fadvise"):
            begin = offset // AROUND_BYTES * AROUND_BYTES
            os.posix_fadvise(opened.number, begin, AROUND_BYTES, os.POSIX_FADV_WILLNEED)
        parts: list[bytes] = []
        done = 0
        while done < size:
            part = os.pread(opened.number, size - done, offset + done)
            if not part:
                raise _changed(opened.path)
            parts.append(part)
            done += len(part)
        return np.frombuffer(parts[0] if len(parts) == 1 else b"".join(parts), header.dtype)


def open_files(files: Sequence[tuple[Path, Header]], access: Access) -> MappedFiles | ReadFiles:
    """``files`` as they are to be read. No file is touched yet."""
    if access == "read" and hasattr(os, "pread"):
        return ReadFiles(files)
    return MappedFiles(files)


def _refuse_other_size(number: int, path: Path, header: Header) -> None:
    if os.fstat(number).st_size != HEADER_BYTES + header.tokens * header.dtype.itemsize:
        raise _changed(path)


def _changed(path: Path) -> OSError:
    return OSError(errno.EIO, "it is not as long as it was", str(path))


def _most_open() -> int:
    """Files that a stream keeps open: a quarter of what a process may, for a map counts too."""
    try:
        import resource

        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    except (ImportError, ValueError, OSError):
        return 128
    return max(1, min(MOST_OPEN, allowed // 4)) if allowed > 0 else MOST_OPEN
