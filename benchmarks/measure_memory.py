"""Peak memory of training steps of 124M models: what recomputing blocks and cutting the loss into chunks save.

    python benchmarks/measure_memory.py peaks [--models gpt2 modern-124m] [--shapes 4x256 4x1024 8x1024]
    python benchmarks/measure_memory.py times [--models gpt2 modern-124m] [--shapes 4x256 4x1024] [--rounds 5]

``peaks``: every case in fresh processes, the growth of its peak resident size over two optimizer steps: what lives at
once (glibc made to give freed memory back), beside the estimate of ``folio check``; and as training runs, with freed
pages kept for the next step. ``times``: the ways of one shape take turns in one process; medians, ratios. Linux only,
on its CPU, two threads unless ``OMP_NUM_THREADS`` says otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

GIB = 2**30
WAYS = {
    "naive loss": {"loss": "naive", "recompute": False},
    "whole logits": {"loss": "whole", "recompute": False},
    "chunked loss": {"loss": "chunked", "recompute": False},
    "naive loss, recompute": {"loss": "naive", "recompute": True},
    "chunked loss, recompute": {"loss": "chunked", "recompute": True},
}
"""naive: ``F.cross_entropy(logits)``. whole: Folio's own loss in one chunk. chunked: as it trains."""
GIVING_BACK = {"FOLIO_KEEP_PAGES": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}


def resident_kib(field: str) -> int:
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


class Trainee:
    """A preset's model on random ids, one optimizer step at a time."""

    def __init__(self, model: str, precision: str, B: int, T: int) -> None:
        import torch

        from folio.config import read_recipe
        from folio.model.config import GPTConfig
        from folio.model.gpt import GPT
        from folio.runtime import make_runtime
        from folio.training.config import OptimizerConfig
        from folio.training.optimizers import Optimizers

        shape = (
            {"vocab_size": 50257, **read_recipe(model)["model"]} if model != "tiny" else {"n_layer": 1, "n_embd": 48}
        )
        self.config = GPTConfig.model_validate({**shape, "block_size": max(T, shape.get("block_size", 1024))})
        self.runtime = make_runtime("cpu", precision)
        self.model = GPT(self.config).initialize(0)
        self.optimizers = Optimizers(
            self.model, OptimizerConfig(), device=self.runtime.device, dtype=self.runtime.dtype
        )
        self.ids = torch.randint(0, 50257, (B, T + 1), generator=torch.Generator().manual_seed(0))

    def step(self, loss: str, recompute: bool, micro_steps: int = 1) -> None:
        import torch.nn.functional as F

        from folio.model.loss import CHUNK_BYTES, cross_entropy

        inputs_BT, targets_N = self.ids[:, :-1], self.ids[:, 1:].flatten()
        self.model.recompute = recompute
        for _ in range(micro_steps):
            with self.runtime.autocast():
                hidden_NC = self.model.hidden(inputs_BT).flatten(0, 1)
                if loss == "naive":
                    nats = F.cross_entropy(F.linear(hidden_NC, self.model.head_weight), targets_N, reduction="sum")
                else:
                    chunk_bytes = CHUNK_BYTES if loss == "chunked" else 2**62
                    vocab_size = self.config.vocab_size
                    nats, _ = cross_entropy(
                        hidden_NC, self.model.head_weight, targets_N, vocab_size, chunk_bytes=chunk_bytes
                    )
            (nats / len(targets_N)).backward()
        self.optimizers.step()
        self.optimizers.zero_grad()


def peak_worker(case: dict[str, Any]) -> None:
    from folio.model.memory import training_memory

    Trainee("tiny", case["precision"], 2, 64).step("chunked", True)  # libraries and kernels are loaded
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew from here
    before = resident_kib("VmRSS")
    trainee = Trainee(case["model"], case["precision"], case["B"], case["T"])
    for _ in range(2):
        trainee.step(case["loss"], case["recompute"], case["micro_steps"])
    estimate = training_memory(
        trainee.config,
        case["B"],
        case["T"],
        dtype=trainee.runtime.precision,
        recompute=case["recompute"],
        accumulates=case["micro_steps"] > 1,
    )
    print(json.dumps({"peak": 1024 * (resident_kib("VmHWM") - before), "estimate": estimate.peak}))


def peaks(arguments: argparse.Namespace) -> None:
    print("| model | B x T | way | lives, GiB | x naive | estimate, GiB | estimate / lives | as it runs, GiB |")
    print("|---|---|---|---|---|---|---|---|")
    for model in arguments.models:
        for B, T in arguments.shapes:
            naive = None
            for way, settings in WAYS.items():
                case = {"model": model, "precision": arguments.precision, "B": B, "T": T, **settings}
                case["micro_steps"] = arguments.micro_steps
                lives, estimate = measured(case, GIVING_BACK)
                naive = naive or lives
                columns = [model, f"{B} x {T}", way, f"{lives / GIB:.2f}", f"{lives / naive:.2f}", "", "", ""]
                if settings["loss"] == "chunked":  # Folio's own ways
                    runs, _ = measured(case, {})
                    columns[5:] = [f"{estimate / GIB:.2f}", f"{estimate / lives:.2f}", f"{runs / GIB:.2f}"]
                print(f"| {' | '.join(columns)} |", flush=True)


def measured(case: dict[str, Any], allocator: dict[str, str]) -> tuple[int, int]:
    """Peak and estimate of a case, in bytes."""
    environment = {"OMP_NUM_THREADS": "2", **os.environ, **allocator}
    command = [sys.executable, __file__, "worker", json.dumps(case)]
    answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(answer.stdout)
    return found["peak"], found["estimate"]


def times(arguments: argparse.Namespace) -> None:
    print("| model | B x T | way | ms/step | least | most | x naive |\n|---|---|---|---|---|---|---|")
    for model in arguments.models:
        for B, T in arguments.shapes:
            trainee = Trainee(model, arguments.precision, B, T)
            taken: dict[str, list[float]] = {way: [] for way in WAYS}
            for turn in range(-1, arguments.rounds):
                for way, settings in WAYS.items():
                    start = time.perf_counter()
                    trainee.step(**settings)  # type: ignore[arg-type]
                    if turn >= 0:
                        taken[way].append(1000 * (time.perf_counter() - start))
            naive = median(taken["naive loss"])
            for way, ms in taken.items():
                middle = median(ms)
                print(
                    f"| {model} | {B} x {T} | {way} | {middle:.0f} | {min(ms):.0f} | {max(ms):.0f}"
                    f" | {middle / naive:.2f} |",
                    flush=True,
                )


def shape(text: str) -> tuple[int, int]:
    B, T = text.split("x")
    return int(B), int(T)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["peaks", "times"])
    parser.add_argument("--models", nargs="+", default=["gpt2", "modern-124m"])
    parser.add_argument("--shapes", nargs="+", type=shape, default=[(4, 256), (4, 1024), (8, 1024)])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--micro-steps", type=int, default=1, help="micro-batches accumulated in a step (peaks)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way (times)")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    {"peaks": peaks, "times": times}[arguments.what](arguments)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        peak_worker(json.loads(sys.argv[2]))
    else:
        main()
