"""What a run computes on: device, precision, ranks and seed as one value that is passed along, never a global."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from folio import hardware
from folio.errors import ConfigError
from folio.ranks import ALONE, Ranks, shared_device

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True)
class Runtime:
    """Where and how to compute. ``reason`` says in a few words why this device and precision were chosen."""

    device: torch.device
    precision: Precision
    seed: int = 0
    ranks: Ranks = ALONE
    reason: str = ""

    @property
    def rank(self) -> int:
        return self.ranks.rank

    @property
    def world_size(self) -> int:
        return self.ranks.world_size

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of matrix products."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision, torch.float32)

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which forward passes run."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def select_fp32_products(self) -> None:
        """Make fp32 products on CUDA as exact as this precision asks; the setting is the whole process's."""
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("highest" if self.precision == "fp32" else "high")

    def synchronize(self) -> None:
        """Wait until the device has done all it was given, so that a clock read next is true."""
        hardware.synchronize(self.device)

    def matmul_peak(self) -> tuple[float, str]:
        """Peak of matrix products in FLOP/s over all ranks, which MFU is relative to, and where it comes from."""
        peak, origin = hardware.matmul_peak(self.device, self.dtype)
        return peak * self.world_size, origin

    def describe(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        threads = f", {torch.get_num_threads()} threads" if self.device.type == "cpu" else ""
        return f"{name}{threads}, {self.precision}" + (f" ({self.reason})" if self.reason else "")


def make_runtime(
    device: DeviceName | str = "auto",
    precision: Precision | Literal["auto"] = "auto",
    *,
    seed: int = 0,
    ranks: Ranks = ALONE,
) -> Runtime:
    """Choose what is not given, check what is, make the process ready for it; :class:`ConfigError` if it cannot be.

    With several ``ranks`` a GPU is the one of the local rank.
    """
    chosen = choose_device(shared_device(device, ranks.launch) if ranks.world_size > 1 else device)
    if ranks.world_size > 1 and chosen.type == "cuda":
        chosen = torch.device("cuda", ranks.launch.local_rank)
    best, reason = _best_precision(chosen)
    if precision == "auto":
        precision = best
    else:
        reason = "as asked"
        _refuse_impossible(chosen, precision)
    if chosen.type == "cpu":
        hardware.keep_pages()
        hardware.speed_up_fp32_products()
    runtime = Runtime(chosen, precision, seed=seed, ranks=ranks, reason=reason)
    runtime.select_fp32_products()
    return runtime


def choose_device(device: str) -> torch.device:
    """The device of that name; "auto" is a GPU if there is one. :class:`ConfigError` for one that is not here."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"there is no device '{device}'", "Use auto, cpu, cuda or mps.") from None
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(chosen.type, False):
        raise ConfigError(f"device '{device}' is not available on this machine", "Use auto, or cpu.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"there is no '{device}': this machine has {torch.cuda.device_count()} GPUs", "Use cuda.")
    return chosen


def _best_precision(device: torch.device) -> tuple[Precision, str]:
    if device.type == "cuda":
        with torch.cuda.device(device):
            if torch.cuda.is_bf16_supported(including_emulation=False):
                return "bf16", "the GPU multiplies bf16"
        return "fp16", "the GPU has no bf16; losses are scaled"
    if device.type == "cpu" and hardware.cpu_multiplies_bf16():
        return "bf16", "the CPU multiplies bf16"
    return "fp32", "no fast bf16 here"


def _refuse_impossible(device: torch.device, precision: Precision) -> None:
    if precision == "tf32" and device.type != "cuda":
        raise ConfigError(f"precision tf32 needs a CUDA GPU; this run is on {device.type}", "Use fp32 or bf16.")
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("precision fp16 needs a GPU; this run is on cpu", "Use bf16 or fp32.")
