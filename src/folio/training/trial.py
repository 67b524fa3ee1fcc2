"""One micro-batch trained on for no other end than to see what memory it takes, and nothing left of it afterwards.

On a GPU in this process; on a CPU in a process of its own. A failed allocation there may be answered by the system's
killer, or by torch giving up oneDNN for the rest of the process, and what was freed would lie about in the heap.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from folio.model.build import allocate
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.runtime import Runtime, make_runtime
from folio.training.available_memory import (
    at_most,
    forget_peak,
    is_out_of_memory,
    peak_resident_bytes,
    resident_bytes,
)

NO_MEMORY = 77
"""The exit code of a trial that did not fit."""


def can_try(device: torch.device) -> bool:
    """Whether a trial's memory can be measured and bounded: on CUDA, and on a CPU under Linux."""
    return device.type == "cuda" or (device.type == "cpu" and resident_bytes() is not None)


def trial_peak(
    model: GPT, runtime: Runtime, micro_batch: int, *, accumulates: bool, recompute: bool, later: int, most: int
) -> int | None:
    """Bytes at the peak of a forward and backward pass over ``micro_batch`` sequences; None where ``most`` is too few.

    Weights count, and ``later`` bytes that training will hold and that are not there yet.
    """
    if runtime.device.type == "cuda":
        with _no_trace(model, runtime.device, recompute):
            return _cuda_peak(runtime.device, later, lambda: _train(model, runtime, micro_batch, accumulates))
    task = {
        "shape": model.config.model_dump(mode="json"),
        "precision": runtime.precision,
        "threads": torch.get_num_threads(),
        "micro_batch": micro_batch,
        "accumulates": accumulates,
        "recompute": recompute,
        "most": most - later,
    }
    command = [sys.executable, "-m", "folio.training.trial", json.dumps(task)]
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if answer.returncode == NO_MEMORY or answer.returncode < 0:  # below zero: the system ended it
        return None
    if answer.returncode:
        raise RuntimeError(f"the trial of a micro-batch failed:\n{answer.stderr}")
    return later + int(answer.stdout)


def _train_once(model: GPT, runtime: Runtime, micro_batch: int) -> None:
    """Forward and backward of one micro-batch of random ids."""
    T, generator = model.config.block_size, torch.Generator().manual_seed(0)
    ids_BT = torch.randint(0, model.config.vocab_size, (micro_batch, T + 1), generator=generator).to(runtime.device)
    with runtime.autocast():
        nats, count = model(ids_BT[:, :-1], ids_BT[:, 1:])
    (nats / count).backward()
    runtime.synchronize()


def _train(model: GPT, runtime: Runtime, micro_batch: int, accumulates: bool) -> None:
    """One micro-batch; before it one sequence where gradients of earlier micro-batches would lie there."""
    if accumulates:
        _train_once(model, runtime, 1)
    _train_once(model, runtime, micro_batch)


@contextlib.contextmanager
def _no_trace(model: GPT, device: torch.device, recompute: bool) -> Iterator[None]:
    """Inside, ``model`` trains; then gradients, random states, modes and freed memory are as they were."""
    before = model.training, model.recompute
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model.train()
        model.recompute = recompute
        try:
            yield
        finally:
            model.train(before[0])
            model.recompute = before[1]
            model.zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.empty_cache()


def _cuda_peak(device: torch.device, later: int, run: Callable[[], None]) -> int | None:
    """The allocator's peak while ``run`` runs beside a tensor of ``later`` bytes; None where the GPU has no more."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        held = torch.empty(later, dtype=torch.uint8, device=device)
        run()
        del held
    except torch.OutOfMemoryError:
        return None
    return torch.cuda.max_memory_allocated(device)


def peak_alone(task: dict[str, Any]) -> int | None:
    """In a process of its own: how far it grows for ``task``, weights and all; None where ``task["most"]`` is too few.

    Should memory run out all the same, the system ends this process before any other. Where torch goes on without
    oneDNN after a failed allocation it takes hundreds of times as long: a clock ends it then.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    signal.alarm(600)
    torch.set_num_threads(task["threads"])
    runtime = make_runtime("cpu", task["precision"])
    shape = GPTConfig.model_validate(task["shape"])
    small = {"vocab_size": 64, "block_size": 8, "n_layer": 1, "n_embd": 8 * shape.n_head, "mlp_width": None}
    warm_up = GPT(shape.model_copy(update=small))  # loads what is loaded on first use, and starts the threads
    warm_up.recompute = task["recompute"]
    _train_once(warm_up, runtime, 1)
    torch.ones(2**20).add_(1)
    forget_peak()
    before = resident_bytes()
    try:
        with at_most(task["most"]):
            model = allocate(shape)
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.02)
            model.recompute = task["recompute"]
            start = time.monotonic()
            _train_once(model, runtime, 1)
            signal.alarm(60 + int(5 * task["micro_batch"] * (time.monotonic() - start)))
            if not task["accumulates"]:
                model.zero_grad(set_to_none=True)
            _train_once(model, runtime, task["micro_batch"])
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None
    peak = peak_resident_bytes()
    if before is None or peak is None or not torch.backends.mkldnn.enabled:
        return None
    return peak - before


if __name__ == "__main__":
    grown = peak_alone(json.loads(sys.argv[1]))
    if grown is None:
        sys.exit(NO_MEMORY)
    print(grown)
