"""A writing as jobs of SLURM, by datatrove: an array of jobs for each step, one job to put all together.

Their logs, scripts and what datatrove sends to them lie in ``NAME.slurm`` beside the shards, and stay there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Any

from folio.artifacts import Parent, write_file
from folio.errors import ArtifactError, ConfigError
from folio.shards.machines.config import EngineConfig
from folio.shards.parts.writing import Writing

SUBMITTED = "submitted.json"


def slurm_folder(to: Path) -> Path:
    """Where all lies that the jobs need and say."""
    return to.with_name(to.name + ".slurm")


def check_slurm(to: Path) -> None:
    """:class:`ConfigError` where no job can be submitted, :class:`ArtifactError` while those of before are not done."""
    if shutil.which("sbatch") is None:
        raise ConfigError(
            "there is no 'sbatch' here", "Run this where SLURM's jobs are submitted, or choose another --engine.kind."
        )
    with suppress(OSError, ValueError):
        jobs = json.loads((slurm_folder(to) / SUBMITTED).read_text(encoding="utf-8"))
        command = ["squeue", "--noheader", "--format=%i", f"--jobs={','.join(jobs.values())}"]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        if asked.returncode == 0 and (queued := asked.stdout.split()):
            raise ArtifactError(
                f"{len(queued)} jobs that write '{to}' are still queued or running: {', '.join(queued[:5])}",
                f"Wait for them, or end them: scancel {' '.join(jobs.values())}",
            )


def submit(
    writing: Writing, engine: EngineConfig, workers: int, tasks: int, parents: Iterable[Parent], logs: Path
) -> list[tuple[str, str]]:
    """Submit a job for every step, each to begin when all of the one before have ended well; name and number of each.

    ``workers`` are how many jobs of a step may run at a time, 0 for no limit.
    """
    from datatrove.executor import SlurmPipelineExecutor

    from folio.shards.machines.blocks import MERGE, PartsMerger, pipeline

    steps = [(step.name, pipeline(writing, step.name), 1 if step.once else tasks) for step in writing.steps()]
    executors: list[Any] = []
    for name, blocks, count in [*steps, (MERGE, [PartsMerger(writing, parents)], 1)]:
        executor = SlurmPipelineExecutor(
            blocks,
            tasks=count,
            workers=workers or -1,
            time=engine.time,
            partition=engine.partition,
            qos=engine.qos,
            mem_per_cpu_gb=engine.memory_gb,
            job_name=f"folio-{name}",
            env_command=engine.setup or f"export PATH={quote(str(Path(sys.executable).parent))}:$PATH",
            sbatch_args={"account": engine.account} if engine.account else {},
            depends=executors[-1] if executors else None,
            logging_dir=str(logs / name),
            skip_completed=False,
        )
        executors.append(executor)
    try:
        executors[-1].run()
    except subprocess.CalledProcessError as error:
        said = (logs / "submitting.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise ConfigError(
            f"sbatch ended with exit status {error.returncode}: {said[-1] if said else ''}",
            "Mend the settings of --engine, and scancel jobs that were submitted before.",
        ) from None
    jobs = [(executor.job_name, str(executor.job_id)) for executor in executors]
    write_file(logs / SUBMITTED, json.dumps(dict(jobs), indent=1) + "\n")
    return jobs
