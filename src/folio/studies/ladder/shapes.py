"""Which models a ladder measures: one for speed, and the same or a smaller one for what is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from folio.errors import ConfigError, nearest
from folio.model.config import GPTConfig
from folio.studies.ladder.rungs import Settings

Vocabulary = Literal["char", "gpt2"]


@dataclass(frozen=True)
class Model:
    """A GPT-2 shape and how much of what text it reads at once."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    vocabulary: Vocabulary
    sequences: tuple[int, ...]
    """Sequences of one forward pass, the most first: what time and memory leave decides."""
    accumulation: int
    """Micro-batches of a step, from the rung of that name on; 0: as many as make :data:`TOKENS_A_STEP`."""
    learning_rate: float = 1e-3
    """AdamW's; torch's own default unless the shape cannot bear it."""

    def config(self, vocab_size: int, settings: Settings) -> GPTConfig:
        """The shape under ``settings``, as Folio's own model has it."""
        return GPTConfig(
            vocab_size=vocab_size,
            block_size=self.block_size,
            n_layer=self.n_layer,
            n_head=self.n_head,
            n_embd=self.n_embd,
            n_kv_head=self.n_head // 2 if settings.grouped else None,
            norm=settings.norm,
            activation=settings.activation,
            position=settings.position,
            qk_norm=settings.qk_norm,
            tie_embeddings=settings.tied,
        )

    def words(self) -> str:
        return f"{self.n_layer} layers of width {self.n_embd}, {self.block_size} tokens of context"


@dataclass(frozen=True)
class Shape:
    """What is timed, what is trained for the losses, and how long."""

    name: str
    speed: Model
    learning: Model
    turn_s: float
    """About how long one turn of a round lasts: several steps where they are short."""


TINY = Model(2, 2, 64, 64, "char", (8,), 2, 3e-3)
SMALL = Model(4, 4, 128, 128, "char", (8,), 4)
LEARNER = Model(4, 4, 128, 64, "char", (8,), 2)
MIDDLE = Model(6, 6, 384, 256, "char", (64,), 4)
ON_CPU = {
    "tiny": Shape("tiny", TINY, TINY, 0.2),
    "small": Shape("small", SMALL, SMALL, 0.5),
    "124m": Shape("124m", Model(12, 12, 768, 256, "gpt2", (4, 2, 1), 8), LEARNER, 0.5),
}
ON_GPU = {
    "tiny": ON_CPU["tiny"],
    "small": Shape("small", MIDDLE, MIDDLE, 0.5),
    "124m": Shape("124m", Model(12, 12, 768, 1024, "gpt2", (8, 4, 2, 1), 0), MIDDLE, 0.5),
}
TOKENS_A_STEP = 524_288
"""GPT-2's own, where accumulation is solved from it."""
NAMES = tuple(ON_CPU)


def shape_of(name: str, device: str) -> Shape:
    """The shape of that name on that kind of device; :class:`ConfigError` with the nearest name if there is none."""
    table = ON_CPU if device == "cpu" else ON_GPU
    if name not in table:
        guess = nearest(name, NAMES)
        raise ConfigError(
            f"the ladder has no shape '{name}'", f"Did you mean {guess}?" if guess else f"It has: {', '.join(NAMES)}."
        )
    return table[name]


def accumulation_of(model: Model, sequences: int) -> int:
    """Micro-batches of a step of ``sequences`` each, from the rung of accumulation on."""
    return model.accumulation or max(1, TOKENS_A_STEP // (sequences * model.block_size))
