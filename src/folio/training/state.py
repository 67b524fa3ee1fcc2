"""Everything that changes while a model trains, one optimizer step, and that state as tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from folio.model.gpt import GPT
from folio.runtime import Runtime
from folio.shards.permutation import derived_numbers
from folio.training.compiling import compile_forward
from folio.training.config import LoopConfig
from folio.training.feed import Drawn, draw
from folio.training.objective import BatchSource, NextToken, Objective
from folio.training.optimizers import Optimizers
from folio.training.parallel import local, placed_like, spread_out
from folio.training.plan import BatchPlan
from folio.training.schedule import rate_multiplier
from folio.training.spikes import SpikeGuard


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step saw, over all ranks: nats, what they are a sum over, the gradient's norm before clipping.

    ``left_out`` is the reason why the weights were not moved, None if they were; ``data_wait_s`` how long it waited for
    its batch.
    """

    nats: float
    count: int
    grad_norm: float
    learning_rate: float
    left_out: str | None = None
    data_wait_s: float = 0.0

    @property
    def loss(self) -> float:
        """Nats per token, or per whatever else the objective counts."""
        return self.nats / self.count


class TrainingState:
    """A model, its optimizers and counters. The number of steps done, and so the position in the data, is ``step``.

    Those weights that need a gradient are trained, the others stay as they are. On several ranks each has one of these;
    every method is then collective.
    """

    def __init__(
        self,
        model: GPT,
        config: LoopConfig,
        runtime: Runtime,
        kind: str = "ddp",
        objective: Objective | None = None,
    ) -> None:
        self.model = model
        self.objective = objective or NextToken()
        self.model.recompute = config.recompute
        self.config = config
        self.runtime = runtime
        self.step = 0
        self.parallel = spread_out(model, runtime.ranks, runtime.device, kind, runtime.precision)
        self.optimizers = Optimizers(
            self.model, config.optimizer, device=runtime.device, dtype=runtime.dtype, parallel=self.parallel
        )
        self.scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
        self.spikes = SpikeGuard(config.spikes)
        self.ema: dict[str, Tensor] | None = None
        self._ships_average = False  # then the parameters hold the average, and ``ema`` the weights
        if config.ema_decay:
            self.ema = {name: local(p.detach()).clone() for name, p in self.trained()}

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The weights that training moves, by name."""
        return ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)

    def train_step(
        self, source: BatchSource, plan: BatchPlan, asked_to_stop: Callable[[], bool] = lambda: False
    ) -> StepResult | None:
        """Draw the next step's batch, accumulate their gradient, and move the weights.

        None if it was asked to stop on the way, on any rank: then nothing has happened, and the random state is as it
        was. Ranks ask each other while they compute, so one micro-batch may pass before all know. Nothing has happened
        either when the batch cannot be had (:class:`DataLost`, on all ranks).
        """
        index, config, ranks = self.step, self.config, self.runtime.ranks
        self.model.train()
        rate = rate_multiplier(index + 1, config.steps, config.schedule)
        self.optimizers.set_rate(rate)
        drawn = draw(source, index, plan, ranks, self.objective.count, asked_to_stop)
        nats = torch.zeros((), device=self.runtime.device)
        random = self._random_state()
        stopping: float = drawn.stopping
        for number, batch in enumerate(drawn.batches):
            if stopping:
                break
            last = number == plan.accumulation - 1
            answer = None if last else ranks.sum_meanwhile(lambda: [asked_to_stop()])
            with self.parallel.accumulating(last=last):
                with self.runtime.autocast():
                    part = self.objective.nats(self.parallel.forward, batch, self.runtime.device)
                loss = part / (drawn.count / self.parallel.averages_over)
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            nats += part.detach()
            if answer is not None:
                (stopping,) = answer()
        if stopping:
            self._set_random_state(random)
            self.optimizers.zero_grad()
            self.parallel.forget()
            return None
        return self._finish_step(nats, drawn, rate)

    def _finish_step(self, own_nats: Tensor, drawn: Drawn, rate: float) -> StepResult:
        for optimizer in self.optimizers.all:
            self.scaler.unscale_(optimizer)
        gradients = [p.grad for p in self.optimizers.parameters if p.grad is not None]
        norm = self.parallel.norm(gradients)
        ranks = self.runtime.ranks
        own, own_norm = torch.stack([own_nats, norm]).tolist()  # the one moment a GPU is waited for
        nats, norm_seen = ranks.sum([own, own_norm if ranks.first else 0.0])  # unlike machines may round it otherwise
        left_out = self.spikes.judge(nats / drawn.count, norm_seen)
        if left_out is None:
            if 0 < self.config.clip_norm < norm_seen:
                torch._foreach_mul_([local(g) for g in gradients], self.config.clip_norm / (norm + 1e-6))
            self.optimizers.step()
            if self.ema is not None:
                current = [local(p.detach()) for _, p in self.trained()]
                torch._foreach_lerp_(list(self.ema.values()), current, 1 - self.config.ema_decay)
        if self.scaler.is_enabled():
            self.scaler.update()
        self.optimizers.zero_grad()
        self.step += 1
        rate *= self.config.optimizer.learning_rate
        return StepResult(nats, drawn.count, norm_seen, rate, left_out, drawn.waited_s)

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
                self.parallel.settle()
                self._swap_ema()
                self.model.train(was_training)

    @torch.no_grad()
    def _swap_ema(self) -> None:
        if self.ema is None:
            return
        self._ships_average = not self._ships_average
        for name, parameter in self.trained():
            kept = local(parameter).clone()
            local(parameter).copy_(self.ema[name])
            self.ema[name].copy_(kept)

    def tensors(self) -> dict[str, Tensor]:
        """All state that resuming bit for bit needs besides the shipped weights: the very tensors, not copies.

        ``rng/`` and the loss scale are copies, and are each rank's own resp. everyone's.
        """
        tensors = {f"optimizer/{name}": value for name, value in self.optimizers.state_tensors().items()}
        tensors["spikes"] = self.spikes.memory
        tensors |= {f"rng/{name}/{self.runtime.rank}": value for name, value in self._random_state().items()}
        if self.scaler.is_enabled():
            scaler = self.scaler.state_dict()
            tensors["scaler"] = torch.tensor([scaler["scale"], scaler["_growth_tracker"]], dtype=torch.float64)
        if self.ema is not None:
            for name, parameter in self.trained():
                raw = placed_like(self.ema[name], parameter) if self._ships_average else parameter.detach()
                tensors[f"weights/{name}"] = raw
        return tensors

    @torch.no_grad()
    def load(self, shipped: Iterable[tuple[str, Tensor]], read: Callable[[dict[str, Tensor]], None], step: int) -> None:
        """Put back a saved state: all trained weights by name, whole, and all that :meth:`tensors` names.

        ``read`` writes into the tensors it is given; it may leave out those of ``rng/``: a rank that was not there when
        the state was saved draws from a stream of its own.
        """
        self.parallel.put(shipped)
        if self.ema is not None:
            for name, parameter in self.trained():
                self.ema[name].copy_(local(parameter))
        self.seed_randomness(step)
        tensors = self.tensors()
        read(tensors)
        self._set_random_state({name: tensors[f"rng/{name}/{self.runtime.rank}"] for name in self._random_state()})
        if self.scaler.is_enabled():
            scale, growth = tensors["scaler"].tolist()
            self.scaler.load_state_dict({**self.scaler.state_dict(), "scale": scale, "_growth_tracker": int(growth)})
        self.step = step

    def is_finite(self) -> bool:
        """Whether every weight is a number, on every rank."""
        odd = sum(int((~torch.isfinite(local(p.detach()))).sum()) for p in self.model.parameters())
        return not self.runtime.ranks.sum([odd])[0]

    def seed_randomness(self, step: int = 0) -> None:
        """Start the stream of random numbers (dropout) of this rank; rank 0's of step 0 is that of the seed itself."""
        seed, rank = self.runtime.seed, self.runtime.rank
        torch.manual_seed(derived_numbers(1, "folio ranks", seed, rank, step)[0] % 2**31 if rank or step else seed)

    def _random_state(self) -> dict[str, Tensor]:
        state = {"cpu": torch.get_rng_state()}
        if self.runtime.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.runtime.device)
        return state

    def _set_random_state(self, state: dict[str, Tensor]) -> None:
        torch.set_rng_state(state["cpu"])
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.runtime.device)

    def compile(self) -> str:
        """Compile the forward pass if the configuration wants it; returns what was done and why."""
        return compile_forward(self.parallel, self.config.compile, self.runtime.device, ragged=self.objective.ragged)
