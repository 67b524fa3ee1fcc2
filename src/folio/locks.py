"""One process at a time: a lock file that the system lets go of however its holder ends."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.1
SAID_AFTER_S = 1.0
BUSY = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


@contextmanager
def locked(path: Path, *, on_wait: Callable[[], None] | None = None, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file ``path``; gives whether it is held.

    While another process holds it this one waits, and calls ``on_wait`` once after a second; with ``wait`` False it
    goes on at once, without. The file stays behind: removing it would let two processes hold locks of one name.
    Where the file system knows no locks (some network mounts), everyone is told that they hold it.
    """
    said, begun = on_wait is None, time.monotonic()
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            taken = _try_lock(descriptor)
            if taken and not _is_still(path, descriptor):
                continue  # its folder was removed and made again while we waited
            if taken or not wait:
                yield taken
                return
        finally:
            os.close(descriptor)
        if not said and time.monotonic() - begun >= SAID_AFTER_S:
            said = True
            assert on_wait is not None
            on_wait()
        time.sleep(POLL_S)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in BUSY:
                return False
            raise
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in BUSY:
                return False
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
        return True
