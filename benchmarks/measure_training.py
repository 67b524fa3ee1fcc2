"""Training steps of GPT-2 124M, Folio beside nanoGPT: each in a process of its own, taken in turn, medians and ratios.

    python benchmarks/measure_training.py --nanogpt PATH/TO/nanoGPT [--rounds 5] [--sequences 4] [--block-size 256]

A worker warms up, then runs a few steps whenever it is told to; between its turns it sleeps. So every contender meets
the same machine, and each has its own allocator and thread settings.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

CONTENDERS = ("nanogpt-fp32", "nanogpt-bf16", "folio-fp32", "folio-bf16")
STEPS_A_TURN = 3


def folio_step(precision: str, sequences: int, block_size: int) -> Callable[[], None]:
    import numpy as np

    from folio.model.config import GPTConfig
    from folio.model.gpt import GPT
    from folio.runtime import make_runtime
    from folio.training.config import TrainConfig
    from folio.training.plan import BatchPlan
    from folio.training.state import TrainingState

    class RandomIds:
        def batch(self, step: int, rows: slice = slice(None)) -> np.ndarray:
            return np.random.default_rng(step).integers(0, 50257, (sequences, block_size + 1))[rows]

    runtime = make_runtime("auto", precision)
    compile_it = "on" if runtime.device.type == "cuda" else "off"
    state = TrainingState(GPT(GPTConfig()).initialize(0), TrainConfig(steps=10_000, compile=compile_it), runtime)
    state.compile()
    plan, source = BatchPlan(block_size, sequences, 1), RandomIds()

    def step() -> None:
        state.train_step(source, plan)
        runtime.synchronize()

    return step


def nanogpt_step(checkout: str, precision: str, sequences: int, block_size: int) -> Callable[[], None]:
    """nanoGPT's own model and optimizer, stepped as its train.py does with its defaults (clipping at 1.0)."""
    from contextlib import nullcontext

    import torch

    sys.path.insert(0, checkout)
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    model = GPT(GPTConfig(block_size=1024, vocab_size=50304, dropout=0.0, bias=False)).to(device)
    optimizer = model.configure_optimizers(0.1, 6e-4, (0.9, 0.95), device)
    forward = torch.compile(model) if device == "cuda" else model
    context = torch.autocast(device, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
    scaler = torch.amp.GradScaler(device, enabled=False)

    def step() -> None:
        ids = torch.randint(0, 50257, (sequences, block_size + 1)).to(device)
        with context:
            _, loss = forward(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    return step


def work(name: str, checkout: str, sequences: int, block_size: int) -> None:
    """Answer every line on stdin with the seconds of a few steps."""
    who, precision = name.split("-")
    step = (
        folio_step(precision, sequences, block_size)
        if who == "folio"
        else nanogpt_step(checkout, precision, sequences, block_size)
    )
    answers, sys.stdout = sys.stdout, sys.stderr
    for _ in range(3):
        step()
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        seconds = []
        for _ in range(STEPS_A_TURN):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        print(json.dumps(seconds), file=answers, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", required=True, help="a checkout of nanoGPT")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--block-size", type=int, default=256)
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.nanogpt, options.sequences, options.block_size)
        return
    workers = {}
    for name in CONTENDERS:
        process = subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        while (line := process.stdout.readline()) and line.strip() != "ready":
            pass
        workers[name] = process
        print(f"{name} is warm", flush=True)
    times: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(options.rounds):
        for name, process in workers.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            times[name] += json.loads(process.stdout.readline())
    for process in workers.values():
        process.stdin.close()
        process.wait()
    tokens = options.sequences * options.block_size
    print(f"\nGPT-2 124M, {options.sequences} x {options.block_size} tokens a step, {options.rounds} rounds in turn")
    print(f"{'':14} {'ms/step':>9} {'min':>7} {'max':>7} {'tokens/s':>9} {'x nanoGPT fp32':>15} {'x nanoGPT bf16':>15}")
    for name, seconds in times.items():
        middle = median(seconds)
        against = [median(times[base]) / middle for base in ("nanogpt-fp32", "nanogpt-bf16")]
        print(
            f"{name:14} {1e3 * middle:9.0f} {1e3 * min(seconds):7.0f} {1e3 * max(seconds):7.0f} {tokens / middle:9.0f} "
            f"{against[0]:15.2f} {against[1]:15.2f}"
        )


if __name__ == "__main__":
    main()
