"""What a run computes on: device, precision, rank and seed as one value that is passed along, never a global.

Also the few settings of the process that make PyTorch fast on it, each checked on the spot before it is kept.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from folio.errors import ConfigError

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]

# Dense bf16 tensor-core peaks in FLOP/s, without sparsity, from NVIDIA's datasheets.
DATASHEET_PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A10G": 70e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}


@dataclass(frozen=True)
class Runtime:
    """Where and how to compute. ``reason`` says in a few words why this device and precision were chosen."""

    device: torch.device
    precision: Precision
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    reason: str = ""

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
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def describe(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        threads = f", {torch.get_num_threads()} threads" if self.device.type == "cpu" else ""
        return f"{name}{threads}, {self.precision}" + (f" ({self.reason})" if self.reason else "")


def make_runtime(
    device: DeviceName | str = "auto", precision: Precision | Literal["auto"] = "auto", *, seed: int = 0
) -> Runtime:
    """Choose what is not given, check what is, make the process ready for it; :class:`ConfigError` if it cannot be."""
    chosen = choose_device(device)
    best, reason = _best_precision(chosen)
    if precision == "auto":
        precision = best
    else:
        reason = "as asked"
        _refuse_impossible(chosen, precision)
    if chosen.type == "cpu":
        keep_pages()
        _speed_up_fp32_products()
    runtime = Runtime(chosen, precision, seed=seed, reason=reason)
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
    if device.type == "cpu" and cpu_multiplies_bf16():
        return "bf16", "the CPU multiplies bf16"
    return "fp32", "no fast bf16 here"


def _refuse_impossible(device: torch.device, precision: Precision) -> None:
    if precision == "tf32" and device.type != "cuda":
        raise ConfigError(f"precision tf32 needs a CUDA GPU; this run is on {device.type}", "Use fp32 or bf16.")
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("precision fp16 needs a GPU; this run is on cpu", "Use bf16 or fp32.")


@cache
def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has instructions for bf16 products (AVX512-BF16 or AMX on x86, BF16 on Arm)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split("\n\n", 1)[0].split()
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))


@cache
def keep_pages() -> bool:
    """Ask glibc to keep freed memory for the next step instead of handing its pages back; true if it agreed.

    A training step frees and asks again for the same gigabytes; each time the kernel would clear every page anew.
    Nothing happens with another allocator or system, or if ``FOLIO_KEEP_PAGES=0``.
    """
    if platform.libc_ver()[0] != "glibc" or os.environ.get("FOLIO_KEEP_PAGES") == "0":
        return False
    m_mmap_max, m_trim_threshold = -4, -1  # malloc.h
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(m_mmap_max, 0)) and bool(libc.mallopt(m_trim_threshold, -1))


@cache
def _speed_up_fp32_products() -> bool:
    """Let oneDNN compute fp32 products where it is as accurate ("medium" may mean bf16 elsewhere); true if kept."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    torch.set_float32_matmul_precision("medium")
    if ((a @ b).double() - exact).norm() / exact.norm() < 2e-6:
        return True
    torch.set_float32_matmul_precision("highest")
    return False


def matmul_peak(runtime: Runtime, *, seconds: float = 0.15) -> tuple[float, str]:
    """Matrix-product peak in FLOP/s that MFU is relative to, and where it comes from: a datasheet, or measured here.

    On unknown hardware, CPUs included, the best of several products of 1024 x 1024 matrices (4096 on a GPU).
    """
    if runtime.device.type == "cuda" and runtime.precision == "bf16":
        name = torch.cuda.get_device_name(runtime.device)
        for model, peak in DATASHEET_PEAKS.items():
            if re.search(rf"\b{model}\b", name) and "Laptop" not in name:
                return peak, f"datasheet of {model}"
    return measured_matmul_peak(runtime, seconds=seconds), "measured here"


def measured_matmul_peak(runtime: Runtime, *, seconds: float = 0.15) -> float:
    """The best rate of square matrix products seen within ``seconds``, in FLOP/s."""
    n = 1024 if runtime.device.type == "cpu" else 4096
    a = torch.randn(n, n, device=runtime.device).to(runtime.dtype)
    b = torch.randn(n, n, device=runtime.device).to(runtime.dtype)
    best, deadline = 0.0, time.perf_counter() + seconds
    a @ b
    while True:
        runtime.synchronize()
        start = time.perf_counter()
        a @ b
        runtime.synchronize()
        now = time.perf_counter()
        best = max(best, 2 * n**3 / (now - start))
        if now > deadline:
            return best
