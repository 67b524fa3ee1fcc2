"""Jobs of several processes under torchrun, each started in a session of its own and ended with all its descendants."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")


@dataclass(frozen=True)
class Ended:
    """What a job said, and how long it took."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def folio_lines(self) -> list[str]:
        """What Folio itself complained of: its lines, not the launcher's."""
        return re.findall(r"^folio: .*$", self.err, flags=re.MULTILINE)


class Job:
    """``program`` on ``ranks`` processes. Leaving the ``with`` block ends every one that is still there.

    torchrun starts ranks in sessions of their own, so that they outlive it when it is killed: a descendant is
    remembered as soon as it is seen, and ended by its number.
    """

    def __init__(
        self,
        folder: Path,
        ranks: int,
        *program: object,
        flags: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.ranks, self.begun = ranks, time.monotonic()
        self._out, self._err = folder / f"{id(self)}.out", folder / f"{id(self)}.err"
        with open(self._out, "wb") as out, open(self._err, "wb") as err:
            self.process = psutil.Popen(
                [*TORCHRUN, "--nproc_per_node", str(ranks), *flags, *map(str, program)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
                start_new_session=True,
            )
        self._seen: set[psutil.Process] = {self.process}

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self._look()
        for process in self._seen:
            with contextlib.suppress(psutil.Error):
                process.kill()  # compares the time of its start: never another process of the same number
        psutil.wait_procs(self._seen, timeout=10)

    def _look(self) -> None:
        with contextlib.suppress(psutil.Error):
            self._seen.update(self.process.children(recursive=True))

    def pid_of(self, rank: int) -> int:
        """The process of that rank, once it is started."""
        for process in self.process.children():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("RANK") == str(rank):
                    return int(process.pid)
        raise LookupError(f"rank {rank} is not there")

    def signal(self, rank: int | None, number: signal.Signals) -> None:
        """Send a signal to one rank, or to torchrun itself (None)."""
        self._look()
        os.kill(self.process.pid if rank is None else self.pid_of(rank), number)

    def wait_until(self, happened: Callable[[], bool], timeout_s: float = 120) -> None:
        """Wait for something to be seen while the job runs; its own words if it ends before, or never gets there."""
        until = time.monotonic() + timeout_s
        while not happened():
            self._look()
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"it did not happen; exit code {self.process.poll()}\n{self._read(self._err)}")
            time.sleep(0.02)

    def end(self, timeout_s: float = 240) -> Ended:
        """Wait for its end; :class:`AssertionError` with what it said if there is none."""
        until = time.monotonic() + timeout_s
        while self.process.poll() is None:
            self._look()
            if time.monotonic() > until:
                raise AssertionError(f"still running after {timeout_s} s\n{self._read(self._err)}")
            time.sleep(0.05)
        code, seconds = self.process.returncode, time.monotonic() - self.begun
        return Ended(code, self._read(self._out), self._read(self._err), seconds)

    @staticmethod
    def _read(path: Path) -> str:
        return path.read_text(encoding="utf-8", errors="replace")
