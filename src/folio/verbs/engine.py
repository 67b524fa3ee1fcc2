"""What makes the steps of a run: model, optimizer and batch plan, as they fit this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.ranks import Ranks
from folio.runtime import Runtime, make_runtime
from folio.training.available_memory import available_memory
from folio.training.config import LoopConfig
from folio.training.loop import Pace
from folio.training.micro_batch import fits_whole, largest_micro_batch
from folio.training.objective import Objective
from folio.training.plan import BatchPlan, sequences_per_rank, solve_batch, usual_micro_batch
from folio.training.sinks import require_sinks
from folio.training.state import TrainingState


@dataclass(kw_only=True)
class Engine:
    """What makes the steps: model, optimizer, and how a batch is cut."""

    runtime: Runtime
    plan: BatchPlan
    state: TrainingState
    pace: Pace
    compiled: str
    peak_origin: str
    fits: str = ""
    """What was found about the largest micro-batch, if it was looked for."""

    def facts(self) -> dict[str, Any]:
        """What was worked out, for ``config.json`` and the reader."""
        return {
            "device": str(self.runtime.device),
            "precision": self.runtime.precision,
            "precision_reason": self.runtime.reason,
            "threads": torch.get_num_threads(),
            "compile": self.compiled,
            "world_size": self.runtime.world_size,
            "parallel": self.state.parallel.kind,
            "micro_batch": self.plan.micro_batch,
            "accumulation": self.plan.accumulation,
            "sequences": self.plan.sequences,
            "block_size": self.plan.block_size,
            "flops_per_token": self.pace.flops_per_token,
            "peak_flops_per_s": self.pace.peak_flops_per_s,
            "peak_origin": self.peak_origin,
        }


@dataclass(frozen=True)
class Needs:
    """What training takes where it is not all of the model in rows of its whole context.

    ``row_tokens`` are the most that one row may hold, ``lasting_bytes`` what weights, gradients and optimizer take.
    """

    row_tokens: int
    lasting_bytes: int


def open_runtime(config: LoopConfig, ranks: Ranks) -> Runtime:
    """The device, with as deterministic kernels as are asked for; :class:`MissingExtra` for a tracker's package."""
    runtime = make_runtime(config.device, config.precision, seed=config.seed, ranks=ranks)
    require_sinks(config.track)
    if runtime.device.type == "cuda":
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for; read when it starts
        torch.use_deterministic_algorithms(config.deterministic, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return runtime


def open_engine(
    model: GPT,
    config: LoopConfig,
    runtime: Runtime,
    block_size: int,
    flops_per_token: float,
    begun: Mapping[str, Any] | None,
    objective: Objective | None = None,
    needs: Needs | None = None,
) -> Engine:
    """``model`` on its device or devices, with its optimizer, and the batch cut as it fits."""
    begun = begun or {}
    world_size = runtime.world_size
    sequences = sequences_per_rank(config.batch_tokens, block_size, world_size)
    fits, micro_batch = "", begun.get("micro_batch") if config.micro_batch == "auto" else config.micro_batch
    same_ranks = begun.get("world_size") == world_size
    way = (
        begun["parallel"]
        if same_ranks and config.parallel == "auto"
        else _way(config, model.config, micro_batch, sequences, runtime, needs)
    )
    if config.micro_batch is None and needs is not None:
        micro_batch = usual_micro_batch(sequences, needs.row_tokens, runtime.device.type)
    if config.micro_batch == "auto" and (micro_batch is None or sequences % micro_batch):
        micro_batch, fits = _most_that_fit(model, config, runtime, sequences, way)
    plan = solve_batch(config.batch_tokens, block_size, micro_batch, world_size=world_size, device=runtime.device.type)
    state = TrainingState(model, config, runtime, way, objective)
    state.seed_randomness()
    compiled = state.compile()
    peak, origin = runtime.matmul_peak()
    pace = Pace(flops_per_token, peak)
    return Engine(runtime=runtime, plan=plan, state=state, pace=pace, compiled=compiled, peak_origin=origin, fits=fits)


def _most_that_fit(model: GPT, config: LoopConfig, runtime: Runtime, sequences: int, way: str) -> tuple[int, str]:
    """The largest micro-batch that fits on every rank, and in words how that was found."""
    ranks = runtime.ranks
    if way != "fsdp":
        model.to(runtime.device)
    found = ranks.attempt(
        lambda: largest_micro_batch(
            model, runtime, config, sequences, available=_own_memory(runtime), trial=way != "fsdp"
        )
    )
    return min(ranks.gather((found.micro_batch, found.how)))


def _own_memory(runtime: Runtime) -> int:
    """Bytes that this rank may still take: its GPU's, or its share of what the machine has."""
    each = available_memory(runtime.device)
    return each // runtime.ranks.launch.local_world_size if runtime.device.type == "cpu" else each


def _way(
    config: LoopConfig,
    shape: GPTConfig,
    micro_batch: int | None,
    sequences: int,
    runtime: Runtime,
    needs: Needs | None,
) -> Literal["alone", "ddp", "fsdp"]:
    """How several ranks share the model: as asked, or whole on each if it fits there by estimate."""
    if runtime.world_size == 1:
        return "alone"
    if config.parallel != "auto":
        return config.parallel
    lasting = None
    if needs is not None:
        shape, lasting = shape.model_copy(update={"block_size": needs.row_tokens}), needs.lasting_bytes
    if micro_batch is None and config.micro_batch is None:
        micro_batch = usual_micro_batch(sequences, shape.block_size, runtime.device.type)
    fits = fits_whole(shape, runtime, config, micro_batch or 1, sequences, _own_memory(runtime), lasting)
    return "fsdp" if not all(runtime.ranks.gather(fits)) and runtime.precision != "fp16" else "ddp"
