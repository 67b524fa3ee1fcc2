"""What the user may choose about who does the work of writing shards, and on how many machines."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from folio.config import Table

OF = {
    "tasks": ("datatrove", "ray", "slurm"),
    "nodes": ("datatrove",),
    "node": ("datatrove",),
    "patience_s": ("datatrove", "ray"),
    "memory_gb": ("ray", "slurm"),
    "address": ("ray",),
    "partition": ("slurm",),
    "account": ("slurm",),
    "qos": ("slurm",),
    "time": ("slurm",),
    "setup": ("slurm",),
}
"""Which kinds each setting is for."""


class EngineConfig(Table):
    """Who does the work: processes of this machine, or datatrove's executors on one machine or many. The shards are the
    same, byte for byte."""

    kind: Literal["local", "datatrove", "ray", "slurm"] = "local"
    """local: processes of this command. datatrove: its local executor, here or on several nodes that share a folder,
    the same command begun on each. ray: a Ray cluster. slurm: jobs are submitted, and this command ends."""
    tasks: int = Field(default=0, ge=0)
    """datatrove, ray, slurm: into how many shares the source is divided. 0: 128 a node at most, of four parts or more
    each; 2 a worker of ray."""
    nodes: int = Field(default=1, ge=1)
    """datatrove: machines that this command is begun on."""
    node: int = Field(default=0, ge=0)
    """datatrove: which of them this is, from 0. Node 0 also does what is done once, and puts all together."""
    patience_s: float = Field(default=3600.0, gt=0)
    """datatrove, ray: give up when no part was finished anywhere for so many seconds; what is done is kept."""
    memory_gb: int = Field(default=2, ge=1)
    """ray, slurm: gigabytes to reserve for each process."""
    address: str = ""
    """ray: address of a running cluster, or auto to find it. Empty: one begun on this machine, ended with the work."""
    partition: str = ""
    """slurm: partition for the jobs; required."""
    account: str = ""
    """slurm: account that the jobs are charged to, where the cluster asks for one."""
    qos: str = ""
    """slurm: quality of service, where the cluster asks for one."""
    time: str = "24:00:00"
    """slurm: limit for each job, as sbatch takes it. What a job has finished by then is kept."""
    setup: str = ""
    """slurm: a line of shell for each job to begin with. Empty: the folder of this command's Python is put on PATH."""

    @model_validator(mode="after")
    def _fits(self) -> EngineConfig:
        for name in sorted(self.model_fields_set):
            if (
                self.kind not in OF.get(name, (self.kind,))
                and getattr(self, name) != type(self).model_fields[name].default
            ):
                raise ValueError(f"{name} is for the kinds {', '.join(OF[name])}; the kind is {self.kind}")
        if self.node >= self.nodes:
            raise ValueError(f"node is {self.node}, and {self.nodes} nodes are 0 to {self.nodes - 1}")
        if self.kind == "slurm" and not self.partition:
            raise ValueError("the kind slurm needs a partition; sinfo lists them")
        return self
