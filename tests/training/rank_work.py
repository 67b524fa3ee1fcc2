"""What ranks do together in ``test_ranks.py``: run by torchrun, one job after another, answers written as JSON.

``torchrun --nproc_per_node 3 rank_work.py FOLDER quick``. The same processes join again and again as jobs of other
sizes, since starting them takes longer than all that they do. A number in an answer is a distance from what one
process gives.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.model.loss import IGNORE
from folio.ranks import ALONE, Ranks, joined
from folio.runtime import Runtime
from folio.training.config import TrainConfig
from folio.training.objective import Rows
from folio.training.plan import BatchPlan, solve_batch
from folio.training.state import TrainingState

WAYS = ("ddp", "fsdp")
SEQUENCES = 12
STEPS = 12

# Sizes and layers that do not divide by 2, or not by 4, and a vector of 6 that leaves the last of 4 ranks nothing.
GPT2 = GPTConfig(vocab_size=37, block_size=15, n_layer=3, n_head=3, n_embd=33, mlp_width=35)
QWEN3 = GPTConfig(
    vocab_size=37,
    block_size=16,
    n_layer=2,
    n_head=7,
    n_kv_head=1,
    n_embd=42,
    mlp_width=35,
    norm="rmsnorm",
    activation="swiglu",
    position="rope",
    qk_norm=True,
    bias=False,
    tie_embeddings=False,
)
SHAPES = {"gpt2": GPT2, "qwen3": QWEN3}


class Counting:
    """Sequences that count upwards, each by a stride of its own; remembers which rows were read."""

    def __init__(self, shape: GPTConfig, *, masked: bool = False) -> None:
        self.shape, self.masked = shape, masked
        self.read: list[int] = []

    def batch(self, step: int, rows: slice = slice(None)) -> Rows:
        generator = np.random.default_rng(step)
        start, stride = generator.integers(0, self.shape.vocab_size, (2, SEQUENCES, 1))
        ids = (start + stride % 3 * np.arange(self.shape.block_size + 1)) % self.shape.vocab_size
        if self.masked:  # ever fewer targets, and none at all in three rows
            for row in range(SEQUENCES):
                ids[row, 1 if 3 <= row < 6 else self.shape.block_size - row :] = IGNORE
        self.read += range(SEQUENCES)[rows]
        return np.asarray(ids, dtype=np.int64)[rows]

    def tokens_before(self, step: int) -> int:
        return step * SEQUENCES * self.shape.block_size


def make_state(
    shape: GPTConfig, ranks: Ranks = ALONE, way: str = "ddp", micro_batch: int | None = None, **train: Any
) -> tuple[TrainingState, BatchPlan]:
    """A fresh state on these ranks, its sequences accumulated twice if nothing else is asked for."""
    micro_batch = micro_batch or SEQUENCES // ranks.world_size // (2 if SEQUENCES // ranks.world_size % 2 == 0 else 3)
    optimizer = {"learning_rate": 3e-3, **train.pop("optimizer", {})}
    tokens = SEQUENCES * shape.block_size
    values = {"steps": STEPS, "batch_tokens": tokens, "seed": 5, "optimizer": optimizer, **train}
    config = TrainConfig.model_validate(values)
    runtime = Runtime(torch.device("cpu"), "fp32", seed=config.seed, ranks=ranks)
    state = TrainingState(GPT(shape).initialize(config.seed), config, runtime, way)
    state.seed_randomness()
    return state, solve_batch(tokens, shape.block_size, micro_batch, world_size=ranks.world_size)


def whole(tensor: Tensor) -> Tensor:
    """A copy of a tensor that may be spread over ranks; collective."""
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


def weights(state: TrainingState) -> dict[str, Tensor]:
    return {name: whole(parameter) for name, parameter in state.model.named_parameters()}


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Relative to the size of ``theirs``."""
    return float((ours - theirs).norm() / theirs.norm().clamp(min=1e-12))


def farthest(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max(distance(ours[name], theirs[name]) for name in theirs)


def relative(ours: list[float], theirs: list[float]) -> float:
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))


@contextmanager
def masked_inputs() -> Iterator[None]:
    """Let rows that are masked with ``IGNORE`` be read as inputs too, of id 0."""
    forward = GPT.forward

    def clamped(self: GPT, ids_BT: Tensor, targets_BT: Tensor | None = None, **more: Any) -> Any:
        return forward(self, ids_BT.clamp(min=0), targets_BT, **more)

    GPT.forward = clamped  # type: ignore[method-assign]
    try:
        yield
    finally:
        GPT.forward = forward  # type: ignore[method-assign]


def trained(state: TrainingState, plan: Any, *, masked: bool = False, steps: int = STEPS) -> dict[str, list[float]]:
    source = Counting(state.model.config, masked=masked)
    with masked_inputs() if masked else nullcontext():
        results = [state.train_step(source, plan) for _ in range(steps)]
    return {
        "losses": [result.loss for result in results if result is not None],
        "norms": [result.grad_norm for result in results if result is not None],
    }


Job = Callable[[Ranks, Path], Any]


def run_jobs(jobs: list[tuple[str, int, Job]], folder: Path) -> None:
    """Each job ``(name, ranks, what)`` in turn; what rank 0 gets from it goes into ``answers.json``."""
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    answers: dict[str, Any] = {}
    for number, (name, size, job) in enumerate(jobs):
        assert size <= count
        if rank >= size:
            continue
        # A later start of the same job, as far as the launcher's store is concerned: nothing old is found in it.
        os.environ |= {
            "TORCHELASTIC_RESTART_COUNT": str(number),
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
        }
        sys.excepthook = sys.__excepthook__  # joining adds to it, every time
        with joined("cpu", timeout_s=1500) as ranks:  # some wait for smaller jobs; whoever started us has less patience
            answer = job(ranks, folder)
            if ranks.first:
                answers[name] = answer
                (folder / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    from rank_jobs import JOBS

    run_jobs(JOBS[sys.argv[2]], Path(sys.argv[1]))
