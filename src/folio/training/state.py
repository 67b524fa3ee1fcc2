"""Everything that changes while a model trains, one optimizer step, and that state as tensors.

B sequences of one micro-batch, T time
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from folio.errors import ConfigError
from folio.model.gpt import GPT
from folio.model.loss import IGNORE
from folio.runtime import Runtime
from folio.training.config import TrainConfig
from folio.training.optimizers import Optimizers
from folio.training.plan import BatchPlan
from folio.training.schedule import rate_multiplier

Rows = npt.NDArray[np.int64]


class BatchSource(Protocol):
    """A pure function of the step: the ``rows`` of its sequences, each of block_size + 1 ids."""

    def batch(self, step: int, rows: slice = ...) -> Rows: ...


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step saw, still on the device: total nats, their count, the gradient's norm; and its rate."""

    nats: Tensor
    tokens: int
    grad_norm: Tensor
    learning_rate: float


class TrainingState:
    """A model, its optimizers and counters. The number of steps done, and so the position in the data, is ``step``."""

    def __init__(self, model: GPT, config: TrainConfig, runtime: Runtime) -> None:
        self.model = model.to(runtime.device)
        self.model.recompute = config.recompute
        self.config = config
        self.runtime = runtime
        self.step = 0
        self.optimizers = Optimizers(self.model, config.optimizer, device=runtime.device, dtype=runtime.dtype)
        self.scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
        self.ema: dict[str, Tensor] | None = None
        if config.ema_decay:
            self.ema = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.forward: Callable[..., tuple[Tensor, Tensor]] = self.model

    def train_step(self, source: BatchSource, plan: BatchPlan) -> StepResult:
        """Draw the next step's sequences, accumulate their gradient, and move the weights."""
        index, config, device = self.step, self.config, self.runtime.device
        self.model.train()
        rate = rate_multiplier(index + 1, config.steps, config.schedule)
        self.optimizers.set_rate(rate)
        batches = [source.batch(index, plan.rows(i, self.runtime.rank)) for i in range(plan.accumulation)]
        count = sum(int((rows[:, 1:] != IGNORE).sum()) for rows in batches)
        nats = torch.zeros((), device=device)
        for rows_BT in batches:
            ids_BT = torch.from_numpy(rows_BT).to(device, non_blocking=True)
            with self.runtime.autocast():
                part, _ = self.forward(ids_BT[:, :-1], ids_BT[:, 1:])
            self.scaler.scale(part / count).backward()  # type: ignore[no-untyped-call]
            nats += part.detach()
        norm = self._move_weights()
        self.step += 1
        if self.ema is not None:
            self._update_ema()
        return StepResult(nats, count, norm, rate * config.optimizer.learning_rate)

    def _move_weights(self) -> Tensor:
        for optimizer in self.optimizers.all:
            self.scaler.unscale_(optimizer)
        parameters = [p for p in self.optimizers.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        limit, waits = self.config.clip_norm, self.runtime.device.type == "cpu"  # a GPU does not wait to be asked
        if limit and not (waits and norm <= limit):
            torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        if self.scaler.is_enabled():
            if bool(torch.isfinite(norm)):  # one verdict for all optimizers
                self.optimizers.step()
            self.scaler.update()
        elif not waits or bool(torch.isfinite(norm)):
            self.optimizers.step()
        self.optimizers.zero_grad()
        return norm

    def _update_ema(self) -> None:
        assert self.ema is not None
        current = [p.detach() for p in self.model.parameters()]
        torch._foreach_lerp_(list(self.ema.values()), current, 1 - self.config.ema_decay)

    @contextmanager
    def shipping_weights(self) -> Iterator[GPT]:
        """The model as it is validated and saved: in evaluation mode, with averaged weights where they are kept.

        What runs inside leaves no trace on the run: random state and training mode are put back.
        """
        devices = [self.runtime.device] if self.runtime.device.type == "cuda" else []
        was_training = self.model.training
        with torch.random.fork_rng(devices=devices):
            self._swap_ema()
            self.model.eval()
            try:
                yield self.model
            finally:
                self._swap_ema()
                self.model.train(was_training)

    @torch.no_grad()
    def _swap_ema(self) -> None:
        if self.ema is None:
            return
        for name, parameter in self.model.named_parameters():
            kept = parameter.detach().clone()
            parameter.copy_(self.ema[name])
            self.ema[name].copy_(kept)

    def tensors(self) -> dict[str, Tensor]:
        """All state that resuming bit for bit needs besides the shipped weights."""
        tensors = {f"optimizer/{name}": value for name, value in self.optimizers.state_tensors().items()}
        tensors["rng/cpu"] = torch.get_rng_state()
        if self.runtime.device.type == "cuda":
            tensors["rng/cuda"] = torch.cuda.get_rng_state(self.runtime.device)
        if self.scaler.is_enabled():
            scaler = self.scaler.state_dict()
            tensors["scaler"] = torch.tensor([scaler["scale"], scaler["_growth_tracker"]], dtype=torch.float64)
        if self.ema is not None:
            tensors |= {f"weights/{name}": p.detach() for name, p in self.model.named_parameters()}
        return {name: value.detach().contiguous().cpu() for name, value in tensors.items()}

    def load_tensors(self, tensors: dict[str, Tensor], step: int) -> None:
        """Put back what :meth:`tensors` gave, the shipped weights being loaded already; KeyError if one is missing."""
        left = dict(tensors)
        if self.ema is not None:
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    self.ema[name].copy_(parameter)
                    parameter.copy_(left.pop(f"weights/{name}"))
        elif any(name.startswith("weights/") for name in left):
            raise KeyError("weights (ema_decay)")
        if self.scaler.is_enabled():
            scale, growth = left.pop("scaler").tolist()
            self.scaler.load_state_dict({**self.scaler.state_dict(), "scale": scale, "_growth_tracker": int(growth)})
        torch.set_rng_state(left.pop("rng/cpu"))
        if self.runtime.device.type == "cuda" and "rng/cuda" in left:
            torch.cuda.set_rng_state(left.pop("rng/cuda"), self.runtime.device)
        prefix = "optimizer/"
        self.optimizers.load_state_tensors(
            {name.removeprefix(prefix): value for name, value in left.items() if name.startswith(prefix)}
        )
        self.step = step

    def compile(self) -> str:
        """Compile the forward pass if the configuration wants it; returns what was done and why."""
        wanted, device = self.config.compile, self.runtime.device.type
        if wanted == "off" or (wanted == "auto" and device != "cuda"):
            return "off" if wanted == "off" else f"off (auto: it gains little on {device})"
        if device == "cpu" and not _has("CXX", "g++", "clang++", "cl"):
            return "off (no C++ compiler on this machine)"
        if device == "cuda" and not (importlib.util.find_spec("triton") and _has("CC", "cc", "gcc", "clang")):
            return "off (no Triton or no C compiler on this machine)"
        if device == "cuda" and torch.cuda.get_device_capability(self.runtime.device) < (7, 0):
            return "off (Triton needs a GPU of compute capability 7.0)"
        try:
            self.forward = torch.compile(self.model, dynamic=False)
        except RuntimeError as error:
            if wanted == "on":
                raise ConfigError(f"torch.compile does not work here: {error}", "Use --train.compile off.") from None
            return f"off ({error})"
        return "on"


def _has(variable: str, *programs: str) -> bool:
    """Whether one of ``programs``, or the one that the environment's ``variable`` names, is on the path."""
    return any(shutil.which(name) for name in (os.environ.get(variable, ""), *programs) if name)
