"""How training scales over ranks, and how much of its communication hides behind backward.

    python benchmarks/measure_scaling.py [--ranks 1,2] [--shapes 30m,gpt2] [--accumulation 1,4] [--rounds 7]
    python benchmarks/measure_scaling.py --ranks 1,2,4,8 --device cuda --sequences 16 --block-size 1024

One torchrun job for each shape and number of ranks above one. All contenders lie in its memory and take turns, a step
each, their order turned round after every round. A time is that of the slowest rank; a ratio is taken within a round,
since neighbours in time met the same machine, and the median over rounds is given with its least and most.

one rank     rank 0 trains by itself; the others sleep in a collective of gloo (their share of a core is printed)
independent  every rank trains by itself at the same time: the same rivals for memory, no communication
ddp          gradients are summed in buckets while backward runs
after        the same buckets, summed when backward is over
fsdp         FSDP2
sum alone    the buckets' sums and nothing else
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from folio.launch import launched
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.ranks import ALONE, Ranks, joined
from folio.runtime import Runtime, make_runtime
from folio.training.config import TrainConfig
from folio.training.parallel import Alone
from folio.training.plan import BatchPlan
from folio.training.state import TrainingState

SHAPES = {"tiny": (2, 2, 64), "30m": (6, 6, 384), "gpt2": (12, 12, 768)}
"""Layers, heads and width, with GPT-2's vocabulary: 4, 30 and 124 million parameters."""
BUCKET_BYTES, FIRST_BUCKET_BYTES = 25 * 2**20, 2**20  # as DDP's
BASES = ("one rank", "independent")
Turns = dict[tuple[str, int], list[float]]
"""Seconds of a step in each round, by contender and micro-batches on a rank."""


class RandomIds:
    """A source of batches that costs next to nothing."""

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size

    def batch(self, step: int, rows: slice = slice(None)) -> npt.NDArray[np.int64]:
        shape = (rows.stop - rows.start, self.block_size + 1)
        return np.random.default_rng((step, rows.start)).integers(0, 50257, shape)


class AfterBackward(Alone):
    """Sums gradients over ranks in DDP's buckets, but only when backward is over."""

    kind = "after"

    def __init__(self, model: GPT, ranks: Ranks) -> None:
        super().__init__(model, ranks)
        self.buckets = [_bucket(parameters) for parameters in _bucketed(model)]

    @contextmanager
    def accumulating(self, *, last: bool) -> Iterator[None]:
        yield
        if last:
            for _, places, parameters in self.buckets:
                torch._foreach_copy_(places, [p.grad for p in parameters if p.grad is not None])
                for place, parameter in zip(places, parameters, strict=True):
                    parameter.grad = place
            self.sum()

    def sum(self) -> None:
        for work in [dist.all_reduce(flat, async_op=True) for flat, _, _ in self.buckets]:
            assert work is not None
            work.wait()


def _bucketed(model: GPT) -> Iterator[list[torch.nn.Parameter]]:
    """The parameters in the order in which backward reaches them, cut as DDP cuts them."""
    bucket: list[torch.nn.Parameter] = []
    limit = FIRST_BUCKET_BYTES
    for parameter in reversed(list(model.parameters())):
        bucket.append(parameter)
        if sum(p.nbytes for p in bucket) >= limit:
            yield bucket
            bucket, limit = [], BUCKET_BYTES
    if bucket:
        yield bucket


def _bucket(parameters: list[torch.nn.Parameter]) -> tuple[Tensor, list[Tensor], list[torch.nn.Parameter]]:
    flat = parameters[0].new_zeros(sum(p.numel() for p in parameters))
    parts = torch.split(flat, [p.numel() for p in parameters])
    return flat, [part.view_as(p) for part, p in zip(parts, parameters, strict=True)], parameters


@dataclass(frozen=True)
class Contender:
    """Something that takes a turn; with ``by_one``, on rank 0 while the others wait."""

    work: Callable[[], object]
    by_one: bool = False


def contenders(options: argparse.Namespace, shape: str, runtime: Runtime) -> dict[tuple[str, int], Contender]:
    """Every contender by name and micro-batches on a rank."""
    layers, heads, width = SHAPES[shape]
    config = GPTConfig(n_layer=layers, n_head=heads, n_embd=width, block_size=max(1024, options.block_size))
    source, ranks = RandomIds(options.block_size), runtime.ranks

    def state(kind: str, ranks: Ranks) -> TrainingState:
        here = Runtime(runtime.device, runtime.precision, ranks=ranks)
        train = TrainConfig(steps=10**6, compile="on" if options.compile else "off")
        made = TrainingState(GPT(config).initialize(0), train, here, kind)
        made.compile()
        return made

    single, ddp, fsdp = state("ddp", ALONE), state("ddp", ranks), state("fsdp", ranks)
    after, together = copy.copy(single), AfterBackward(single.model, ranks)
    together.forward = single.parallel.forward
    after.parallel, after.runtime = together, ddp.runtime

    def step(trained: TrainingState, accumulation: int) -> Callable[[], object]:
        plan = BatchPlan(options.block_size, options.sequences, accumulation, trained.runtime.world_size)
        return lambda: trained.train_step(source, plan)

    found = {}
    for accumulation in options.accumulation:
        for many in (accumulation, accumulation * ranks.world_size):
            found["one rank", many] = Contender(step(single, many), by_one=True)
            found["independent", many] = Contender(step(single, many))
        for name, trained in (("ddp", ddp), ("after", after), ("fsdp", fsdp)):
            found[name, accumulation] = Contender(step(trained, accumulation))
    found["sum alone", 0] = Contender(together.sum)
    return found


def take_turn(contender: Contender, runtime: Runtime) -> tuple[float, float]:
    """Seconds that the slowest rank took, and the largest share of a core that a waiting rank used meanwhile."""
    ranks, waits = runtime.ranks, contender.by_one and not runtime.ranks.first
    ranks.wait()
    start, cpu = time.perf_counter(), time.process_time()
    if not waits:
        contender.work()
        runtime.synchronize()
    seconds = 0.0 if waits else time.perf_counter() - start
    if contender.by_one:
        ranks.wait()
    share = (time.process_time() - cpu) / (time.perf_counter() - start) if waits else 0.0
    answers = ranks.gather((seconds, share))
    return max(s for s, _ in answers), max(share for _, share in answers)


def measure(options: argparse.Namespace, shape: str) -> None:
    with joined(options.device) as ranks:
        runtime = make_runtime(options.device, options.precision, ranks=ranks)
        racing = contenders(options, shape, runtime)
        for (_, accumulation), contender in racing.items():
            for _ in range(2 if accumulation <= min(options.accumulation) else 0):
                take_turn(contender, runtime)
        turns: Turns = {key: [] for key in racing}
        idle = []
        for number in range(options.rounds):
            for key in list(racing)[:: 1 if number % 2 == 0 else -1]:
                seconds, share = take_turn(racing[key], runtime)
                turns[key].append(seconds)
                if racing[key].by_one:
                    idle.append(share)
        if ranks.first:
            report(options, shape, runtime, turns, max(idle))


def report(options: argparse.Namespace, shape: str, runtime: Runtime, turns: Turns, idle: float) -> None:
    """Markdown tables."""
    count, tokens = runtime.world_size, options.sequences * options.block_size
    print(
        f"\n### {shape}, {count} ranks, {options.sequences} x {options.block_size} tokens a micro-batch and rank\n\n"
        f"{runtime.describe()} a rank; {options.rounds} rounds; a waiting rank used at most {idle:.1%} of a core.\n"
    )
    row("step", "micro-batches a rank", "ms", "least", "most", "tokens/s")
    row(*["---"] * 6)
    for (name, many), seconds in sorted(turns.items(), key=lambda item: (item[0][1], item[0][0])):
        middle, workers = median(seconds), 1 if name == "one rank" else count
        rate = f"{workers * many * tokens / middle:,.0f}" if many else ""
        row(name, many or "", *(f"{1e3 * s:.0f}" for s in (middle, min(seconds), max(seconds))), rate)
    print("\nEfficiency: weak, the same tokens on each rank; strong, the same tokens in all.\n")
    row(
        "",
        "micro-batches a rank",
        "weak, of one rank",
        "weak, of independent",
        "strong, of one rank",
        "strong, of independent",
    )
    row(*["---"] * 6)
    for many in options.accumulation:
        for name in ("ddp", "fsdp"):
            weak = [ratio(turns[base, many], turns[name, many]) for base in BASES]
            strong = [ratio(turns[base, many * count], turns[name, many], 1 / count) for base in BASES]
            row(name, many, *weak, *strong)
    print("\nCommunication of ddp. Exposed: what it adds to the step of independent ranks, as a share of its own.\n")
    row(
        "micro-batches a rank",
        "exposed, overlapped",
        "exposed, after backward",
        "saved by overlap",
        "of it hidden",
    )
    row(*["---"] * 5)
    for many in options.accumulation:
        free, ddp, after = (turns[name, many] for name in ("independent", "ddp", "after"))
        added = [b - a for a, b in zip(free, after, strict=True)]
        saved = [b - a for a, b in zip(ddp, after, strict=True)]
        exposed = [spread([(b - a) / b for a, b in zip(free, other, strict=True)], "{:.0%}") for other in (ddp, after)]
        hidden = f"{median(saved) / median(added):.0%}" if median(added) > 0 else "below the noise"
        row(many, *exposed, f"{1e3 * median(saved):.0f} ms", hidden)


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def ratio(base: list[float], other: list[float], scale: float = 1.0) -> str:
    return spread([scale * a / b for a, b in zip(base, other, strict=True)], "{:.2f}")


def spread(values: list[float], form: str) -> str:
    return f"{form} ({form} to {form})".format(median(values), min(values), max(values))


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=numbers, default=[1, 2], help="1 is measured in every job")
    parser.add_argument("--shapes", default="30m,gpt2", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--sequences", type=int, default=2, help="of a micro-batch")
    parser.add_argument("--block-size", type=int, default=256)
    parser.add_argument("--accumulation", type=numbers, default=[1, 4], help="micro-batches a step on each rank")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=1, help="of each rank, on a CPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if launched().world_size > 1:
        measure(options, options.shapes)
        return
    for shape in options.shapes.split(","):
        for count in options.ranks:
            if count > 1:
                torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", __file__]
                job = [sys.executable, *torchrun, *sys.argv[1:], "--shapes", shape]
                subprocess.run(["env", f"OMP_NUM_THREADS={options.threads}", *job], check=True)


if __name__ == "__main__":
    main()
