"""What the machine of a ladder can do: which rungs it has a place for, and its peak of matrix products."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

FP8_CAPABILITY = (8, 9)
TF32_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Machine:
    """Facts, found out in a process of its own: looking changes settings of the process."""

    device: str
    """cpu, cuda or mps."""
    name: str = ""
    gpus: int = 0
    capability: tuple[int, int] = (0, 0)
    threads: int = 1
    bf16: bool = False
    onednn: bool = False
    pages: bool = False
    compiles: str = "on"
    """"on", or why torch.compile does not work here."""
    peaks: dict[str, float] | None = None
    """FLOP/s of matrix products by device: the best dtype's, which MFU is relative to."""
    memory: int = 0
    """Bytes that may be taken, of the host's memory or of a GPU's."""

    def refusal(self, rung: str) -> str:
        """Why a rung has no place here; empty if it has one."""
        cuda, cpu = self.device == "cuda", self.device == "cpu"
        lacks = {
            "gpu": "this ladder stays on the CPU" if cpu else "",
            "tf32": "needs a CUDA GPU"
            if not cuda
            else "the GPU has no TF32"
            if self.capability < TF32_CAPABILITY
            else "",
            "onednn": "for CPUs" if not cpu else "oneDNN is less accurate than fp32 here" if not self.onednn else "",
            "bf16": "" if self.bf16 else "no bf16 instructions here: it would be emulated",
            "pages": self._no_pages() if cpu else "for CPUs: a GPU's allocator keeps its memory by itself",
            "compile": "" if self.compiles == "on" else self.compiles,
            "products": "" if cpu else "for CPUs: on a GPU the fused kernel is faster",
            "fused": "" if cpu or cuda else f"no fused kernel on {self.device}",
            "ddp": self._no_ranks(),
            "fp8": ""
            if cuda and self.capability >= FP8_CAPABILITY
            else "needs a GPU that multiplies fp8 (8.9, Ada or Hopper)",
        }
        return lacks.get(rung, "")

    def _no_pages(self) -> str:
        return "" if self.pages else "the allocator is not glibc's, or FOLIO_KEEP_PAGES=0"

    def _no_ranks(self) -> str:
        if self.device == "cuda":
            return "" if self.gpus > 1 else "one GPU"
        if self.device == "cpu":
            return "" if self.threads > 1 else "one core"
        return f"one process on {self.device}"

    def keeps(self, rung: str) -> bool:
        """Whether those above stand on it: on a CPU compiling undoes the attention, and ranks share the cores."""
        return self.device == "cuda" or rung not in ("compile", "ddp")

    @property
    def ranks(self) -> int:
        return self.gpus if self.device == "cuda" else 2

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def machine_of(facts: dict[str, Any]) -> Machine:
    """A machine from what :meth:`Machine.as_dict` gave."""
    return Machine(**{**facts, "capability": tuple(facts["capability"])})


def look(device: str) -> Machine:
    """Find out, in this process, which is left with other settings than it had. Takes some seconds."""
    import torch
    from torch import nn

    from folio import hardware
    from folio.ranks import ALONE
    from folio.runtime import choose_device
    from folio.training.available_memory import available_memory
    from folio.training.compiling import compile_forward
    from folio.training.parallel import Alone

    chosen = choose_device(device)
    cuda = chosen.type == "cuda"
    try:
        compiles = compile_forward(Alone(nn.Identity(), ALONE), "on", chosen)  # type: ignore[arg-type]
    except Exception as error:
        compiles = str(error).splitlines()[0]
    host = torch.device("cpu")
    found = Machine(
        device=chosen.type,
        name=torch.cuda.get_device_name(chosen) if cuda else _processor(),
        gpus=torch.cuda.device_count() if cuda else 0,
        capability=torch.cuda.get_device_capability(chosen) if cuda else (0, 0),
        threads=torch.get_num_threads(),
        bf16=_multiplies_bf16(chosen),
        onednn=hardware.speed_up_fp32_products(),
        pages=hardware.keep_pages(),
        compiles=compiles.removeprefix("off (").removesuffix(")"),
        memory=available_memory(chosen),
    )
    peaks = {"cpu": _peak(host, hardware.cpu_multiplies_bf16())}
    if chosen.type != "cpu":
        peaks[chosen.type] = _peak(chosen, found.bf16)
    return Machine(**{**found.as_dict(), "peaks": peaks, "capability": found.capability})


def _peak(device: Any, bf16: bool) -> float:
    import torch

    from folio import hardware

    dtypes = [torch.float32, *([torch.bfloat16] if bf16 else [])]
    return max(hardware.matmul_peak(device, dtype, seconds=0.5)[0] for dtype in dtypes)


def _multiplies_bf16(device: Any) -> bool:
    import torch

    from folio import hardware

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "mps" or hardware.cpu_multiplies_bf16()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return f"{names[0] if names else 'CPU'}, {os.cpu_count()} cores"
