"""How much memory this process may still take, how much it took at its worst, and a bound on what it may take.

Linux says all of it in files of ``/proc`` and ``/sys``; elsewhere a CPU's free memory is a guess on the low side.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

ROOT = Path("/")
NOT_TOLD = 4 * 2**30
"""What is taken to be there where the system does not say (Windows)."""
UNLIMITED = 2**60
"""A limit above this is none: version 1 of control groups writes the largest number it can hold."""


def available_memory(device: torch.device, root: Path = ROOT) -> int:
    """Bytes that this process may still take on ``device``, besides what it holds.

    CPU: what the system calls available, or less where a control group (a container, a batch system) or ``ulimit -v``
    allows less. CUDA: what is free, with what the allocator keeps for later. MPS: the system's recommendation.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    bounds = [_system_available(root), *_group_allowances(root)]
    if (most := address_space_limit()) is not None and (taken := _status_bytes("VmSize")) is not None:
        bounds.append(most - taken)
    return max(0, min(bounds))


def _system_available(root: Path) -> int:
    text = _read(root / "proc/meminfo")
    if match := re.search(r"MemAvailable:\s+(\d+) kB", text):
        return 1024 * int(match[1])
    if not hasattr(os, "sysconf"):
        return NOT_TOLD
    page, names = os.sysconf("SC_PAGE_SIZE"), os.sysconf_names
    if "SC_AVPHYS_PAGES" in names:
        return page * os.sysconf("SC_AVPHYS_PAGES")
    return page * os.sysconf("SC_PHYS_PAGES") // 2  # macOS tells only what is built in; half of it is left for others


def _group_allowances(root: Path) -> Iterator[int]:
    """What each control group above this process still allows, both versions; file pages it can drop do not count."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(","):
            mount, idle = "memory", "total_inactive_file"
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
        elif number == "0":
            mount, idle = "", "inactive_file"
            limit, usage = "memory.max", "memory.current"
        else:
            continue
        top = root / "sys/fs/cgroup" / mount
        inside = top / group.strip("/")
        for folder in (inside, *(above for above in inside.parents if above.is_relative_to(top))):
            most, taken = _read(folder / limit).strip(), _read(folder / usage).strip()
            if most.isdigit() and taken.isdigit() and int(most) < UNLIMITED:
                dropped = re.search(rf"^{idle} (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
                yield int(most) - int(taken) + (int(dropped[1]) if dropped else 0)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _status_bytes(field: str) -> int | None:
    match = re.search(rf"^{field}:\s+(\d+) kB", _read(ROOT / "proc/self/status"), re.MULTILINE)
    return 1024 * int(match[1]) if match else None


def resident_bytes() -> int | None:
    """Bytes of this process that lie in memory now; None where the system does not say."""
    return _status_bytes("VmRSS")


def forget_peak() -> None:
    """Let :func:`peak_resident_bytes` begin anew, where the kernel allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_resident_bytes() -> int | None:
    """The most that lay in memory since :func:`forget_peak`, or since the process began where that could do nothing."""
    peak = _status_bytes("VmHWM")
    if peak is not None or sys.platform == "win32":
        return peak
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most  # macOS counts bytes, others KiB


def forget_peak_on(device: torch.device) -> None:
    """Let :func:`peak_on` begin anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        forget_peak()


def peak_on(device: torch.device) -> int | None:
    """The most bytes held since then: of tensors on a GPU, of the whole process on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_resident_bytes()


def address_space_limit() -> int | None:
    """The bytes of address space that this process may take (``ulimit -v``), or None for any number."""
    if sys.platform == "win32":
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


@contextmanager
def at_most(more: int) -> Iterator[None]:
    """Inside, taking over ``more`` bytes besides what is held fails with an error instead of endangering the process.

    A soft limit on address space, put back afterwards. Linux only: elsewhere nothing is limited.
    """
    taken = _status_bytes("VmSize")
    if sys.platform != "linux" or taken is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    allowed = [taken + max(0, more), *(bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(allowed), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: Python's error, torch's, or what its native parts say in words."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("DefaultCPUAllocator", "bad_alloc", "could not create a memory", "could not create a primitive")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
