"""``micro_batch = "auto"``: the most sequences in one forward pass that fit in memory, without changing the step.

An estimate passes over what cannot fit; what remains is tried, largest first, until one fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from folio.errors import ConfigError
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.model.memory import TrainingMemory, training_memory
from folio.runtime import Runtime
from folio.training.available_memory import available_memory
from folio.training.config import LoopConfig
from folio.training.plan import divisors
from folio.training.trial import can_try, trial_peak

# Shares of the memory that training may take. On a CPU the rest is for what the allocator loses to gaps as a run goes
# on, and for everyone else. Before a trial on CUDA the estimate only spares what cannot succeed.
MAY_TAKE = {"cpu": 0.8, "cuda": 0.95, "mps": 0.8}
WORTH_A_TRIAL = {"cpu": 0.8, "cuda": 1.25}
GIB = 2**30

Trial = Callable[[int], int | None]
"""Trains on one micro-batch of so many sequences: the peak in bytes, or None where the memory did not suffice."""


@dataclass(frozen=True)
class Fit:
    """``micro_batch`` of the ``sequences`` of a step fit."""

    micro_batch: int
    sequences: int
    peak_bytes: int
    """At the worst moment, weights and optimizer included: measured, or by estimate where nothing was tried."""
    available_bytes: int
    """What is there for training, the weights included where they are there already."""
    measured: bool
    how: str
    """What was found, in a sentence."""


def largest_micro_batch(
    model: GPT,
    runtime: Runtime,
    config: LoopConfig,
    sequences: int,
    *,
    available: int | None = None,
    trial: bool = True,
    tell: Callable[[str], None] = lambda line: None,
) -> Fit:
    """The largest divisor of ``sequences`` (of one step on one rank) that fits; :class:`ConfigError` if not even 1.

    ``model`` is the bare one, before it is wrapped for several ranks or compiled; a trial moves it to the runtime's
    device. ``available`` is what training may take besides what is held there, in bytes, read after that move: ranks
    that share a machine's memory divide it among them. ``trial=False`` goes by the estimate alone, each rank holding
    its part of the model (FSDP). A trial leaves no trace: no gradients, and random states, training mode and
    recomputation as they were. ``tell`` hears of each trial before it begins, since on a CPU one takes as long as it
    trains.
    """
    weights = sum(parameter.nbytes for parameter in model.parameters())
    if trial:
        model.to(runtime.device)
    if available is None:
        available = available_memory(runtime.device)
    there = next(model.parameters()).device.type == runtime.device.type
    available += weights if there else 0  # for what is held already
    if not trial or not can_try(runtime.device):
        return fit_by_estimate(model.config, runtime, config, sequences, available, sharded=not trial)
    search = _Search(model.config, runtime, config, sequences, available)

    def attempt(micro_batch: int) -> int | None:
        tell(f"trying a micro-batch of {micro_batch} of {sequences} sequences")
        expected = search.estimate(micro_batch)
        later = expected.optimizer + expected.average + search.copies(expected)
        peak = trial_peak(
            model,
            runtime,
            micro_batch,
            accumulates=expected.accumulates,
            recompute=config.recompute,
            later=later,
            most=search.most,
        )
        return None if peak is None else max(peak, weights + later + expected.gradients + expected.step)

    return search.largest(attempt)


def fit_by_estimate(
    shape: GPTConfig,
    runtime: Runtime,
    config: LoopConfig,
    sequences: int,
    available: int | None = None,
    *,
    sharded: bool = False,
) -> Fit:
    """The largest divisor of ``sequences`` that fits by the estimate alone, into ``available`` bytes, weights included.

    ``sharded``: each rank holds its part of weights, gradients and optimizer (FSDP).
    """
    if available is None:
        available = available_memory(runtime.device)
    return _Search(shape, runtime, config, sequences, available, runtime.world_size if sharded else 1).largest()


def fits_whole(
    shape: GPTConfig,
    runtime: Runtime,
    config: LoopConfig,
    micro_batch: int,
    sequences: int,
    available: int,
    lasting: int | None = None,
) -> bool:
    """Whether a rank can hold the whole model and train on ``micro_batch`` of its ``sequences``, by the estimate.

    ``lasting`` bytes are taken for weights, gradients and optimizer where not every weight is trained.
    """
    search = _Search(shape, runtime, config, sequences, available)
    needed = search.needed(micro_batch)
    if lasting is not None:
        expected = search.estimate(micro_batch)
        needed += lasting - expected.weights - expected.gradients - expected.optimizer
    return needed <= search.most


@dataclass(frozen=True)
class _Search:
    """The largest micro-batch of ``sequences`` that trains ``shape`` in ``available`` bytes."""

    shape: GPTConfig
    runtime: Runtime
    config: LoopConfig
    sequences: int
    available: int
    shards: int = 1

    @property
    def most(self) -> int:
        return int(MAY_TAKE[self.runtime.device.type] * self.available)

    def estimate(self, micro_batch: int) -> TrainingMemory:
        keeps_gradients = self.runtime.world_size > 1 and self.shards == 1  # DDP has them in its buckets for good
        return training_memory(
            self.shape,
            micro_batch,
            dtype=self.runtime.precision,
            optimizer=self.config.optimizer.kind,
            recompute=self.config.recompute,
            accumulates=keeps_gradients or micro_batch < self.sequences,
            ema=self.config.ema_decay > 0,
            shards=self.shards,
            device=self.runtime.device.type,
        )

    def copies(self, expected: TrainingMemory) -> int:
        """Bytes of the copy that is written to disk beside training, where that lies in the same memory."""
        beside = self.config.checkpoint_async and self.runtime.device.type != "cuda"
        return expected.weights + expected.optimizer + expected.average if beside else 0

    def needed(self, micro_batch: int) -> int:
        """Bytes at the worst moment, by the estimate."""
        expected = self.estimate(micro_batch)
        return expected.peak + self.copies(expected)

    def largest(self, attempt: Trial | None = None) -> Fit:
        """Candidates in falling order, each estimated and then, with an ``attempt``, tried."""
        refused = ""
        limit = self.most if attempt is None else WORTH_A_TRIAL[self.runtime.device.type] * self.available
        for micro_batch in reversed(divisors(self.sequences)):
            needed = self.needed(micro_batch)
            if needed > limit:
                refused = f"{micro_batch} would take {_gib(needed)}" + (" (estimate)" if attempt is not None else "")
                continue
            peak = needed if attempt is None else attempt(micro_batch)
            if peak is not None and peak <= self.most:
                return self._fit(micro_batch, peak, attempt is not None, refused)
            refused = f"{micro_batch} took {'all of it' if peak is None else _gib(peak)} when tried"
        raise ConfigError(
            f"not even one sequence of {self.shape.block_size} tokens fits in memory: of the {_gib(self.available)} "
            f"available training may take {_gib(self.most)}, and {refused}",
            f"Use {'' if self.config.recompute else '--train.recompute, '}a smaller --model.block-size, "
            "or a smaller model.",
        )

    def _fit(self, micro_batch: int, peak: int, measured: bool, refused: str) -> Fit:
        which = "all" if micro_batch == self.sequences else f"{micro_batch} of"
        how = f"{which} {self.sequences} sequences fit: {_gib(peak)} of {_gib(self.available)}"
        how += " measured" if measured else " (estimate)"
        if refused:
            how += f"; {refused}"
        return Fit(micro_batch, self.sequences, peak, self.available, measured, how)


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.0f} MiB"
