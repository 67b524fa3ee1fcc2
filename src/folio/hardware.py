"""What this machine can do, and settings of the process that make PyTorch fast on it, each checked first."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import time
from functools import cache
from pathlib import Path

import torch

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
def speed_up_fp32_products() -> bool:
    """Let oneDNN compute fp32 products where it is as accurate ("medium" may mean bf16 elsewhere); true if kept."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    torch.set_float32_matmul_precision("medium")
    if ((a @ b).double() - exact).norm() / exact.norm() < 2e-6:
        return True
    torch.set_float32_matmul_precision("highest")
    return False


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given, so that a clock read next is true."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def matmul_peak(device: torch.device, dtype: torch.dtype, *, seconds: float = 0.15) -> tuple[float, str]:
    """Matrix-product peak in FLOP/s that MFU is relative to, and where it comes from: a datasheet, or measured here.

    On unknown hardware, CPUs included, the best of several products of 1024 x 1024 matrices (4096 on a GPU).
    """
    if device.type == "cuda" and dtype == torch.bfloat16:
        name = torch.cuda.get_device_name(device)
        for model, peak in DATASHEET_PEAKS.items():
            if re.search(rf"\b{model}\b", name) and "Laptop" not in name:
                return peak, f"datasheet of {model}"
    return measured_matmul_peak(device, dtype, seconds=seconds), "measured here"


def measured_matmul_peak(device: torch.device, dtype: torch.dtype, *, seconds: float = 0.15) -> float:
    """The best rate of square matrix products seen within ``seconds``, in FLOP/s."""
    n = 1024 if device.type == "cpu" else 4096
    a = torch.randn(n, n, device=device).to(dtype)
    b = torch.randn(n, n, device=device).to(dtype)
    best, deadline = 0.0, time.perf_counter() + seconds
    a @ b
    while True:
        synchronize(device)
        start = time.perf_counter()
        a @ b
        synchronize(device)
        now = time.perf_counter()
        best = max(best, 2 * n**3 / (now - start))
        if now > deadline:
            return best
