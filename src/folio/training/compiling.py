"""Whether the forward pass is compiled: what was asked for, and what this machine has the tools for."""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import Literal

import torch

from folio.errors import ConfigError
from folio.training.parallel import Alone


def compile_forward(
    parallel: Alone, wanted: Literal["auto", "on", "off"], device: torch.device, *, ragged: bool = False
) -> str:
    """Compile the forward pass if it is wanted and can be; returns what was done and why.

    ``ragged`` passes, each of another shape, are not: every few steps would wait for the compiler, until it gives up,
    and from where a run began it would depend which passes are compiled, and so the last bits.
    """
    if ragged and wanted == "on":
        raise ConfigError(
            "passes of packed examples differ in shape, so there is nothing to compile once for all",
            "Use --train.compile off, or --data.attend-across.",
        )
    if ragged and wanted == "auto":
        return "off (auto: passes of packed examples differ in shape)"
    if wanted == "off" or (wanted == "auto" and device.type != "cuda"):
        return "off" if wanted == "off" else f"off (auto: it gains little on {device.type})"
    if device.type == "cpu" and not _has("CXX", "g++", "clang++", "cl"):
        return "off (no C++ compiler on this machine)"
    if device.type == "cuda" and not (importlib.util.find_spec("triton") and _has("CC", "cc", "gcc", "clang")):
        return "off (no Triton or no C compiler on this machine)"
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (7, 0):
        return "off (Triton needs a GPU of compute capability 7.0)"
    try:
        parallel.compile()
    except RuntimeError as error:
        if wanted == "on":
            raise ConfigError(f"torch.compile does not work here: {error}", "Use --train.compile off.") from None
        return f"off ({error})"
    return "on"


def _has(variable: str, *programs: str) -> bool:
    """Whether one of ``programs``, or the one that the environment's ``variable`` names, is on the path."""
    return any(shutil.which(name) for name in (os.environ.get(variable, ""), *programs) if name)
