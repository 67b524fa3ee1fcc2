"""A process apart in which datatrove's executors run, so that nothing they or Ray print or change reaches the caller.

It leads a group of its own: all processes that they start are in it, and end with it, and it ends with its parent.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from folio.artifacts import Parent
from folio.errors import require
from folio.shards.child import Child
from folio.shards.machines.config import EngineConfig
from folio.shards.parts.writing import Writing
from folio.shards.worker import serve

LOOKED_EVERY_S = 0.5
OBJECT_STORE_BYTES = 100 * 2**20
"""What passes through Ray's store is a writing without its text: a few mebibytes."""


@dataclass
class Executors:
    """What the process apart does. ``workers`` is 0 for as many as a cluster has."""

    writing: Writing
    engine: EngineConfig
    workers: int

    def check(self) -> None:
        """That all packages are there."""
        _into(Path(os.devnull))
        require("datatrove.executor", "data")
        if self.engine.kind == "ray":
            os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
            require("ray", "ray")

    def run(self, step: str, tasks: int, ranks: range, logs: Path) -> None:
        """The ``ranks`` of a step, of ``tasks`` in all, on this machine or by Ray; what they print is in ``logs``."""
        from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor

        from folio.shards.machines.blocks import pipeline

        _into(logs / "output.log")
        common = {"tasks": tasks, "logging_dir": str(logs), "skip_completed": False}
        blocks = pipeline(self.writing, step)
        if self.engine.kind == "ray":
            self._begin_ray()
            workers = self.workers or tasks
            RayPipelineExecutor(blocks, workers=workers, mem_per_cpu_gb=self.engine.memory_gb, **common).run()
        else:
            here = {"local_tasks": len(ranks), "local_rank_offset": ranks.start}
            LocalPipelineExecutor(blocks, workers=min(self.workers, len(ranks)), **here, **common).run()

    def end(self) -> None:
        """Leave the cluster, or end that of this machine."""
        if self.engine.kind == "ray":
            import ray

            ray.shutdown()

    def _begin_ray(self) -> None:
        import ray

        if ray.is_initialized():
            return
        if self.engine.address:
            ray.init(address=self.engine.address, log_to_driver=False)
            return
        memory = self.workers * self.engine.memory_gb * 2**30
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # Ray's processes find what this one does
        ray.init(
            num_cpus=self.workers,
            _memory=memory,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
        )

    def submit(self, tasks: int, parents: Iterable[Parent], logs: Path) -> list[tuple[str, str]]:
        """Every step as jobs of SLURM, each after the one before; name and number of each."""
        from folio.shards.machines.slurm import submit

        _into(logs / "submitting.log")
        return submit(self.writing, self.engine, self.workers, tasks, parents, logs)


class ExecutorsProcess(Child):
    """Runs :class:`Executors`; errors of theirs are raised here."""

    def __init__(self, executors: Executors) -> None:
        remedy = "Run the same command again with fewer workers: what is done is kept."
        super().__init__("folio.shards.machines.executors", "the process that runs datatrove", remedy)
        self.say(pickle.dumps(executors))
        self.answer()

    def ask(self, method: str, *given: Any) -> Any:
        """What ``method`` of the :class:`Executors` gives; one at a time."""
        self.say(pickle.dumps((method, given)))
        return self.answer()

    def __enter__(self) -> ExecutorsProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it at once, with all processes that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        super().stop()


def main() -> None:
    """Receive :class:`Executors`, then what they are to do, until the parent is gone."""
    os.setsid()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    serve(lambda executors, request, say: getattr(executors, request[0])(*request[1]))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOKED_EVERY_S)
    os.killpg(0, signal.SIGKILL)


def _into(log: Path) -> None:
    """Send what this process and its children print to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
