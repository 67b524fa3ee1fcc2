"""A model of a few thousand weights, made-up text it can learn, and a loop over both that takes a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.runtime import Runtime
from folio.training.checkpoint import Checkpoint
from folio.training.config import TrainConfig
from folio.training.loop import Hooks, Line, Pace, Probe, fit
from folio.training.objective import Rows
from folio.training.plan import BatchPlan, solve_batch
from folio.training.saving import ModelContents, Saver
from folio.training.state import TrainingState

SHAPE = GPTConfig(
    vocab_size=37,
    block_size=16,
    n_layer=2,
    n_head=4,
    n_kv_head=2,
    n_embd=32,
    norm="rmsnorm",
    activation="swiglu",
    position="rope",
    qk_norm=True,
    bias=False,
)
GPT2 = GPTConfig(vocab_size=37, block_size=16, n_layer=2, n_head=2, n_embd=32)
FP32 = Runtime(torch.device("cpu"), "fp32")
BF16 = Runtime(torch.device("cpu"), "bf16")


class Counting:
    """Sequences that count upwards, each by a stride of its own: the next id can be learned."""

    def __init__(self, sequences: int = 8, block_size: int = 16, vocab_size: int = 37) -> None:
        self.shape = (sequences, block_size + 1)
        self.vocab_size = vocab_size

    def batch(self, step: int, rows: slice = slice(None)) -> Rows:
        generator = np.random.default_rng(step)
        start, stride = generator.integers(0, self.vocab_size, (2, self.shape[0], 1))
        return np.asarray((start + stride % 3 * np.arange(self.shape[1])) % self.vocab_size, dtype=np.int64)[rows]

    def tokens_before(self, step: int) -> int:
        return step * self.shape[0] * (self.shape[1] - 1)


def make_state(
    shape: GPTConfig = SHAPE, runtime: Runtime = FP32, **train: Any
) -> tuple[TrainingState, Counting, BatchPlan]:
    """A fresh state with its source and plan; the same arguments give the same bits."""
    config = TrainConfig.model_validate({"steps": 12, "batch_tokens": 8 * shape.block_size, "seed": 5, **train})
    torch.manual_seed(config.seed)
    state = TrainingState(GPT(shape).initialize(config.seed), config, runtime)
    plan = solve_batch(config.batch_tokens, shape.block_size, config.micro_batch)
    return state, Counting(plan.sequences, shape.block_size, shape.vocab_size), plan


def run_steps(state: TrainingState, source: Any, plan: BatchPlan, steps: int) -> list[float]:
    """Take ``steps`` optimizer steps; nats per token of each."""
    results = [state.train_step(source, plan) for _ in range(steps)]
    return [result.loss for result in results if result is not None]


def save(run: Path, state: TrainingState, facts: Line | None = None, **options: Any) -> Checkpoint:
    """Save a checkpoint of ``state`` in ``run``, clearing none away, and wait until it is written."""
    run.mkdir(exist_ok=True)
    (run / "config.json").touch()
    with Saver(run, state.runtime.ranks, ModelContents(), **{"keep_last": 99, **options}) as saver:
        saver.save(state, facts or {})
        saver.finish()
    assert saver.newest is not None
    return saver.newest


def fit_quietly(
    state: TrainingState, source: Any, plan: BatchPlan, *, probes: tuple[Probe, ...] = (), **hooks: Any
) -> list[Line]:
    """The metrics lines of a whole :func:`fit`, whatever it raises going through."""
    lines: list[Line] = hooks.pop("lines", [])
    save = hooks.pop("save", lambda state, facts: None)
    unprobed = hooks.pop("unprobed", False)
    fit(state, source, plan, Hooks(lines.append, save, probes), Pace(1.0, 1.0), unprobed=unprobed)
    return lines


def weights(state: TrainingState) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in state.model.named_parameters()}


def assert_same_bits(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
