"""What is trained: the method, and what low-rank adapters are like."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from folio.config import Table

Method = Literal["full", "lora", "qlora", "head"]
ALL = "all-linear"
"""The target that means every linear layer of the blocks."""


class LoraConfig(Table):
    """Low-rank adapters: what is trained instead of the matrices themselves."""

    rank: int = Field(default=16, ge=1)
    """Rank of each adapter."""
    alpha: float = Field(default=32.0, gt=0)
    """The adapter's product is scaled by alpha / rank, or with rslora by alpha / sqrt(rank)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on what goes into the adapters while training."""
    targets: tuple[str, ...] = Field(default=(ALL,), min_length=1)
    """Layers that get one: all-linear (of the blocks), or ends of names, Folio's (qkv, proj, mlp.up) or Hugging Face's
    (c_attn, q_proj, down_proj)."""
    rslora: bool = False
    """Rank-stabilized scaling (Kalajdzievski 2023): keeps the size of a step the same at high ranks."""
    dora: bool = False
    """Train the length of each row apart from its direction (DoRA, Liu et al. 2024)."""
    seed: int = Field(default=0, ge=0)
    """First values of the adapters."""

    @property
    def scaling(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)
