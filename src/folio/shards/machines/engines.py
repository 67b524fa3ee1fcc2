"""A writing done by whoever the user chooses: this command's processes, datatrove on several nodes, Ray, or SLURM."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace

from folio.artifacts import Parent
from folio.errors import ConfigError
from folio.shards.machines.config import EngineConfig
from folio.shards.machines.executors import Executors, ExecutorsProcess
from folio.shards.machines.nodes import Node, set_up
from folio.shards.machines.ranks import tasks_of
from folio.shards.machines.slurm import check_slurm, slurm_folder
from folio.shards.parts.merge import PartsProgress
from folio.shards.parts.write import PartsWritten, Tell, finish_writing
from folio.shards.parts.writing import Writing
from folio.shards.pool import cores
from folio.shards.write import is_done


def write_with(
    writing: Writing, engine: EngineConfig, workers: int, parents: Iterable[Parent], tell: Tell
) -> PartsWritten | None:
    """Finish ``writing`` with the chosen engine; None where SLURM was given jobs, which ``tell`` hears of.

    ``workers`` is as in :class:`folio.shards.ShardsConfig`: processes of this machine, 0 for its cores; with SLURM and
    on a Ray cluster that runs already, tasks at a time, 0 for no limit. The shards are those of
    :func:`folio.shards.parts.write.write_parts`, byte for byte. Raises what that raises;
    :class:`folio.errors.MissingExtra` without datatrove or ray; :class:`folio.errors.RankLost` if a process or another
    node is gone or silent. The same call goes on from where it stopped.
    """
    if engine.kind == "local" or is_done(writing.to, writing.job):
        return finish_writing(writing, workers or cores(), parents, tell)
    if sys.platform == "win32":
        raise ConfigError(f"the kind {engine.kind} does not run on Windows", "Leave --engine.kind at local.")
    writing = replace(writing, to=writing.to.absolute())
    if engine.kind == "slurm":
        _submit(writing, engine, workers, parents, tell)
        return None
    if not engine.address:
        workers = workers or cores()
    return Node(writing, engine, workers, tell).write(parents)


def _submit(writing: Writing, engine: EngineConfig, workers: int, parents: Iterable[Parent], tell: Tell) -> None:
    check_slurm(writing.to)
    logs = slurm_folder(writing.to)
    with ExecutorsProcess(Executors(writing, engine, workers)) as process:
        process.ask("check")
        set_up(writing)
        jobs = process.ask("submit", tasks_of(engine, workers, writing.parts), tuple(parents), logs)
    told = ", ".join(f"{name} {number}" for name, number in jobs)
    plan = writing.refining.source.plan
    note = f"submitted {len(jobs)} jobs: {told}; scripts and logs are in '{logs}'"
    tell(PartsProgress("submit", 0, len(plan), 0, plan.bytes, 0, 0, 0, note))
