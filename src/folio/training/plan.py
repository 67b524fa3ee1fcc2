"""How a step's tokens are cut into micro-batches: solved from ``batch_tokens``, never the other way round."""

from __future__ import annotations

from dataclasses import dataclass

from folio.errors import ConfigError

# Tokens in one forward pass when the user leaves it to us: enough to keep the device busy.
AUTO_MICRO_TOKENS = {"cpu": 8192, "cuda": 32768, "mps": 8192}


@dataclass(frozen=True)
class BatchPlan:
    """``sequences`` of ``block_size`` tokens a step = micro_batch x accumulation x world_size."""

    block_size: int
    micro_batch: int
    accumulation: int
    world_size: int = 1

    @property
    def sequences(self) -> int:
        return self.micro_batch * self.accumulation * self.world_size

    @property
    def tokens(self) -> int:
        return self.sequences * self.block_size

    def rows(self, micro_step: int, rank: int = 0) -> slice:
        """Which of the step's sequences rank ``rank`` reads in micro-step ``micro_step``."""
        start = (micro_step * self.world_size + rank) * self.micro_batch
        return slice(start, start + self.micro_batch)

    def describe(self) -> str:
        ranks = f" x {self.world_size} ranks" if self.world_size > 1 else ""
        return (
            f"{self.tokens:,} tokens a step = {self.micro_batch} sequences x {self.accumulation} accumulated"
            f"{ranks} x {self.block_size} tokens"
        )


def divisors(n: int) -> list[int]:
    """Every number that divides ``n``, in order."""
    return [d for d in range(1, n + 1) if n % d == 0]


def sequences_per_rank(batch_tokens: int, block_size: int, world_size: int = 1) -> int:
    """Sequences of a step on each rank; :class:`ConfigError` with the nearest values where the tokens do not divide."""
    unit = block_size * world_size
    if batch_tokens % unit:
        below, above = batch_tokens // unit * unit, -(-batch_tokens // unit) * unit
        nearest = f"{below:,} or {above:,}" if below else f"{above:,}"
        ranks = f" times {world_size} ranks" if world_size > 1 else ""
        raise ConfigError(
            f"batch_tokens {batch_tokens:,} is not a multiple of block_size {block_size}{ranks}",
            f"The nearest values that are: {nearest}.",
        )
    return batch_tokens // unit


def usual_micro_batch(sequences: int, block_size: int, device: str) -> int:
    """The largest divisor of a rank's ``sequences`` that is enough to keep the device busy, and no more."""
    fitting = AUTO_MICRO_TOKENS[device] // block_size
    return max((n for n in divisors(sequences) if n <= fitting), default=1)


def solve_batch(
    batch_tokens: int, block_size: int, micro_batch: int | None, *, world_size: int = 1, device: str = "cpu"
) -> BatchPlan:
    """The plan for ``batch_tokens`` a step; :class:`ConfigError` names the nearest values where it cannot divide.

    ``micro_batch`` "auto" is resolved before, by :func:`folio.training.micro_batch.largest_micro_batch`.
    """
    sequences = sequences_per_rank(batch_tokens, block_size, world_size)
    possible = divisors(sequences)
    if micro_batch is None:
        micro_batch = usual_micro_batch(sequences, block_size, device)
    elif micro_batch not in possible:
        around = [max(n for n in possible if n < micro_batch), *[n for n in possible if n > micro_batch][:1]]
        raise ConfigError(
            f"micro_batch {micro_batch} does not divide the {sequences} sequences of a step",
            f"The nearest values that do: {' or '.join(map(str, around))}.",
        )
    return BatchPlan(block_size, micro_batch, sequences // micro_batch, world_size)
