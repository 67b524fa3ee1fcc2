"""Cells on many machines: each is a task of Ray's, which starts the same process where there is room for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from folio.errors import ConfigError, require
from folio.studies.running.engine import CellJob, CellProcess, Running, surroundings_of

POLL_S = 0.2


class RayEngine:
    """``room`` tasks at once (all that the cluster holds, if None), each asking for ``threads`` CPUs and ``gpus``.

    Every machine sees the study's folder, the text and Folio's cache under the same paths (a shared file system), and
    has the same Python environment. :class:`ConfigError` if no cluster answers, or none of its machines is so large.
    """

    def __init__(self, threads: int, gpus: float = 0.0, room: int | None = None, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        self._ray: Any = require("ray", "ray")
        self.threads, self.gpus = threads, gpus
        try:
            self._ray.init(address=address, log_to_driver=False, include_dashboard=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = f" at {address}" if address else ""
            raise ConfigError(f"no Ray cluster answers{where}: {error}".splitlines()[0], "Check --address.") from None
        held = self._ray.cluster_resources()
        fits = min(held.get("CPU", 0) // threads, held.get("GPU", 0) // gpus if gpus else held.get("CPU", 0))
        if fits < 1:
            self.close()
            raise ConfigError(
                f"the cluster has {held.get('CPU', 0):g} CPUs and {held.get('GPU', 0):g} GPUs; "
                f"a cell asks for {threads} and {gpus:g}",
                "Lower --threads or --gpus-per-cell.",
            )
        self.room = room or int(fits)
        self._train = self._ray.remote(max_retries=0)(train_cell)

    def threads_of(self, job: CellJob) -> int:
        return job.threads or self.threads

    def start(self, job: CellJob, slot: int) -> Running:
        threads = self.threads_of(job)
        task = self._train.options(num_cpus=threads, num_gpus=self.gpus, name=job.name)
        return _Task(self._ray, task.remote(list(job.command), str(job.log.resolve()), threads, os.getcwd()))

    def close(self) -> None:
        """Leave the cluster; one that was begun for this study ends."""
        self._ray.shutdown()


def train_cell(command: list[str], log: str, threads: int, folder: str) -> int:
    """The task: run ``command`` in ``folder`` and return its exit code. A cancelled one lets the process save."""
    import time

    os.chdir(folder)
    process = CellProcess(tuple(command), Path(log), surroundings_of(os.environ, threads))
    try:
        while (code := process.exit_code()) is None:
            time.sleep(POLL_S)
    except BaseException:
        process.stop()
        while (code := process.exit_code()) is None:
            time.sleep(POLL_S)
    return code


class _Task:
    """A task that was handed to Ray."""

    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray, self._reference = ray, reference

    def exit_code(self) -> int | None:
        done, _ = self._ray.wait([self._reference], timeout=0)
        if not done:
            return None
        try:
            return int(self._ray.get(self._reference))
        except self._ray.exceptions.TaskCancelledError:
            return 3
        except self._ray.exceptions.RayError:
            return 1

    def stop(self) -> None:
        self._ray.cancel(self._reference)

    def kill(self) -> None:
        self._ray.cancel(self._reference, force=True)
