"""How long a run takes on rented GPUs and what it costs, from its floating-point operations: before any is rented."""

from __future__ import annotations

from dataclasses import dataclass

from folio.errors import ConfigError
from folio.hardware import DATASHEET_PEAKS
from folio.model.accounting import forward_flops, training_flops
from folio.model.config import GPTConfig
from folio.model.memory import training_memory
from folio.training.config import LoopConfig
from folio.training.plan import divisors, sequences_per_rank, solve_batch
from folio.training.rental import FILLED, MEMORY_BYTES, NUMBERS_OF_GPUS, Assumptions


@dataclass(frozen=True, slots=True)
class Rental:
    """A whole run on ``gpus`` GPUs of one kind, products in bf16."""

    gpu: str
    gpus: int
    hours: float
    """Training and validation; starting, saving and whatever goes wrong are not in it."""
    usd: float
    tokens_per_s: float
    """While training, of all GPUs together."""
    micro_batch: int
    """Sequences of one forward pass on each GPU."""
    accumulation: int
    parallel: str
    """ddp or fsdp; on one GPU alone."""
    peak_memory_bytes: int
    """On each GPU, by estimate."""
    gpu_memory_bytes: int
    fits: bool
    """Whether the peak leaves a fifth of the GPU's memory free."""


def training_run_flops(shape: GPTConfig, config: LoopConfig) -> int:
    """Operations of all steps."""
    return training_flops(shape) * config.batch_tokens * config.steps


def validation_run_flops(shape: GPTConfig, config: LoopConfig) -> int:
    """Operations of all validations, one at the end among them; 0 where the size of the split is not in the recipe."""
    every = config.validate_every
    times = -(-config.steps // every) if every else 1
    return forward_flops(shape) * config.validation_tokens * times


def rentals(shape: GPTConfig, config: LoopConfig, assumptions: Assumptions) -> tuple[list[Rental], list[str]]:
    """The run on one and on eight of each kind of GPU; and why some number of them cannot share its batch.

    hours = FLOPs / (datasheet peak x MFU x GPUs x scaling efficiency) / 3600.
    """
    found: list[Rental] = []
    problems: list[str] = []
    for gpus in NUMBERS_OF_GPUS:
        for gpu in MEMORY_BYTES:
            try:
                found.append(_rental(shape, config, assumptions, gpu, gpus))
            except ConfigError as error:
                problems.append(f"{gpus} GPUs: {error.problem}")
    return found, list(dict.fromkeys(problems))


def _rental(shape: GPTConfig, config: LoopConfig, assumptions: Assumptions, gpu: str, gpus: int) -> Rental:
    speed = DATASHEET_PEAKS[gpu] * assumptions.mfu * gpus * (assumptions.scaling_efficiency if gpus > 1 else 1)
    hours = (training_run_flops(shape, config) + validation_run_flops(shape, config)) / speed / 3600
    micro_batch, parallel, peak = _placed(shape, config, gpu, gpus)
    plan = solve_batch(config.batch_tokens, shape.block_size, micro_batch, world_size=gpus, device="cuda")
    return Rental(
        gpu=gpu,
        gpus=gpus,
        hours=hours,
        usd=hours * gpus * assumptions.usd_per_hour.of(gpu),
        tokens_per_s=speed / training_flops(shape),
        micro_batch=plan.micro_batch,
        accumulation=plan.accumulation,
        parallel=parallel,
        peak_memory_bytes=peak,
        gpu_memory_bytes=MEMORY_BYTES[gpu],
        fits=peak <= FILLED * MEMORY_BYTES[gpu],
    )


def _placed(shape: GPTConfig, config: LoopConfig, gpu: str, gpus: int) -> tuple[int, str, int]:
    """Micro-batch, way over ranks and peak memory on each, chosen as a run would choose them."""
    sequences = sequences_per_rank(config.batch_tokens, shape.block_size, gpus)
    room = FILLED * MEMORY_BYTES[gpu]
    if isinstance(config.micro_batch, str):
        sizes = divisors(sequences)[::-1]
    else:
        plan = solve_batch(config.batch_tokens, shape.block_size, config.micro_batch, world_size=gpus, device="cuda")
        sizes = [plan.micro_batch]
    ways = ["alone"] if gpus == 1 else ["ddp", "fsdp"] if config.parallel == "auto" else [config.parallel]
    for way in ways:
        for size in sizes:
            peak = training_memory(
                shape,
                size,
                dtype="bf16",
                optimizer=config.optimizer.kind,
                recompute=config.recompute,
                accumulates=size < sequences,
                ema=config.ema_decay > 0,
                shards=gpus if way == "fsdp" else 1,
                device="cuda",
            ).peak
            if peak <= room:
                return size, way, peak
    return size, way, peak
