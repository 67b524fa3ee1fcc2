"""A GPT: token ids in, logits or loss out.

B batch, T time, C channels, V vocabulary (padded inside, cut outside)
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from folio.model.cache import Context
from folio.model.config import GPTConfig
from folio.model.layers import Block, make_norm, rotary_table
from folio.model.loss import IGNORE, cross_entropy, each_token_nats, token_nats

Init = Literal["gpt2", "zero-residual"]


class GPT(nn.Module):
    """A decoder-only transformer of the GPT-2 family (Radford et al. 2019), with the switches of ``GPTConfig``."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False  # activation checkpointing: keep each block's input alone, compute the rest again
        self.embed = nn.Embedding(config.padded_vocab_size, config.n_embd)
        if config.position == "learned":
            self.positions = nn.Embedding(config.block_size, config.n_embd)
        if config.position == "rope":
            cos, sin = rotary_table(config.head_size, config.block_size, config.rope_theta)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = make_norm(config, config.n_embd)
        if not config.tie_embeddings:
            self.head = nn.Linear(config.n_embd, config.padded_vocab_size, bias=False)

    @property
    def head_weight(self) -> Tensor:
        """The output head, (padded V, C)."""
        return self.embed.weight if self.config.tie_embeddings else self.head.weight

    def initialize(self, seed: int, init: Init = "gpt2") -> GPT:
        """Draw every weight anew: N(0, 0.02), or N(0, 0.02 / sqrt(2 n_layer)) where a block writes (GPT-2, sec. 2.3).

        "zero-residual" sets those projections to zero instead, so that every block starts as the identity. Drawn on the
        CPU from a generator of its own, so the same seed gives the same weights on every device. Padding rows are zero.
        """
        generator = torch.Generator().manual_seed(seed)
        residual_std = 0.0 if init == "zero-residual" else 0.02 / math.sqrt(2 * self.config.n_layer)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim < 2:
                    parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
                    continue
                std = residual_std if name.endswith("proj.weight") else 0.02
                drawn = torch.empty(parameter.shape, dtype=torch.float32).normal_(0.0, 1.0, generator=generator)
                parameter.copy_(drawn.mul_(std))
            self._clear_padding()
        return self

    def _clear_padding(self) -> None:
        with torch.no_grad():
            self.embed.weight[self.config.vocab_size :] = 0
            self.head_weight[self.config.vocab_size :] = 0

    def hidden(self, ids_BT: Tensor, cache: Context | None = None) -> Tensor:
        """The final normalized residual stream, (B, T, C)."""
        T = ids_BT.shape[1]
        if cache is None:
            if self.config.block_size < T:
                raise ValueError(f"{T} tokens are more than this model's context of {self.config.block_size}")
            positions = torch.arange(T, device=ids_BT.device)
        else:
            positions = cache.begin(T)
        x_BTC = self.embed(ids_BT)
        if self.config.position == "learned":
            x_BTC = x_BTC + self.positions(positions)
        rotary = self._rotary(positions) if self.config.position == "rope" else None
        x_BTC = F.dropout(x_BTC, self.config.dropout, self.training)
        layers = [None] * self.config.n_layer if cache is None else cache.layers
        for block, layer in zip(self.blocks, layers, strict=True):
            if self.recompute and torch.is_grad_enabled():
                x_BTC = checkpoint(block, x_BTC, rotary, layer, use_reentrant=False)
            else:
                x_BTC = block(x_BTC, rotary, layer)
        if cache is not None:
            cache.end(T)
        return self.norm(x_BTC)  # type: ignore[no-any-return]

    def _rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = self.cos[positions], self.sin[positions]
        return (cos, sin) if positions.ndim == 1 else (cos[:, None], sin[:, None])

    def logits(self, hidden_BTC: Tensor) -> Tensor:
        """Logits over the true vocabulary, (..., V), in the dtype of the product."""
        return F.linear(hidden_BTC, self.head_weight)[..., : self.config.vocab_size]

    def forward(
        self, ids_BT: Tensor, targets_BT: Tensor | None = None, *, cache: Context | None = None, each: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (B, T, V) without padding; or, with targets, (sum of nats, count of targets) that are not -100.

        ``each``: instead of the sum the nats of every position, (B, T) fp32, with gradients, zero where the target is
        -100.
        """
        hidden_BTC = self.hidden(ids_BT, cache)
        if targets_BT is None:
            return self.logits(hidden_BTC)
        hidden_NC, targets_N = hidden_BTC.flatten(0, 1), targets_BT.flatten()
        if each:
            nats_N = each_token_nats(hidden_NC, self.head_weight, targets_N, self.config.vocab_size)
            return nats_N.view(targets_BT.shape), (targets_N != IGNORE).sum()
        return cross_entropy(hidden_NC, self.head_weight, targets_N, self.config.vocab_size)

    def token_nats(self, ids_BT: Tensor, targets_BT: Tensor, cache: Context | None = None) -> Tensor:
        """-log p(target) of every position in nats, (B, T) fp32, zero where the target is -100; no gradients."""
        with torch.no_grad():
            hidden_NC = self.hidden(ids_BT, cache).flatten(0, 1)
            nats_N = token_nats(hidden_NC, self.head_weight, targets_BT.flatten(), self.config.vocab_size)
        return nats_N.view(targets_BT.shape)
