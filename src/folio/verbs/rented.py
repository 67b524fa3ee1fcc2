"""What a run would take on rented GPUs, as ``folio check`` tells it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from folio.verbs.action import Terminal

if TYPE_CHECKING:
    from folio.model.config import GPTConfig
    from folio.training.config import LoopConfig
    from folio.training.rental import Assumptions


def rented(shape: GPTConfig, config: LoopConfig, assumptions: Assumptions) -> dict[str, Any]:
    """Hours, money and memory of the run on each kind and number of GPUs, with all that they rest on."""
    from folio.training.estimate import rentals, training_run_flops, validation_run_flops

    found, problems = rentals(shape, config, assumptions)
    if config.precision in ("fp32", "tf32"):
        problems.append(f"train.precision is {config.precision}, which is slower than bf16")
    return {
        "mfu": assumptions.mfu,
        "scaling_efficiency": assumptions.scaling_efficiency,
        "usd_per_hour": assumptions.usd_per_hour.model_dump(),
        "precision": "bf16",
        "training_flops": training_run_flops(shape, config),
        "validation_flops": validation_run_flops(shape, config),
        "runs": [asdict(one) for one in found],
        "problems": problems,
    }


def show_rented(rented: dict[str, Any], terminal: Terminal) -> None:
    """Print the table, and under it what it assumes."""
    columns = ("GPUs", "tokens/s", "hours", "USD", "micro-batch", "memory of each", "fits")
    title = "the whole run on rented GPUs, in bf16 (estimate)"
    terminal.table(columns, map(_row, rented["runs"]), title=title)
    prices = ", ".join(f"{gpu.upper()} {price:.2f}" for gpu, price in rented["usd_per_hour"].items())
    terminal.print(f"  Assumed: {rented['mfu']:.0%} MFU, of the datasheet's peak (folio train shows yours; --mfu);")
    terminal.print(f"  eight GPUs {8 * rented['scaling_efficiency']:.3g} times as fast as one (--scaling-efficiency);")
    terminal.print(f"  USD for an hour of one {prices} (--usd-per-hour.a100 ...).")
    for problem in rented["problems"]:
        terminal.print(f"  Not reckoned: {problem}")
    terminal.print()


def _row(run: dict[str, Any]) -> tuple[object, ...]:
    return (
        f"{run['gpus']} x {run['gpu']}" + (" (fsdp)" if run["parallel"] == "fsdp" else ""),
        round(run["tokens_per_s"]),
        _short(run["hours"]),
        _short(run["usd"]),
        run["micro_batch"],
        f"{run['peak_memory_bytes'] / 1e9:.1f} of {run['gpu_memory_bytes'] / 1e9:.0f} GB",
        run["fits"],
    )


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
