"""The parts of a transformer block: rotary positions, attention, MLP.

B batch, T time (new tokens), S time seen (cached and new), C channels, H heads, G key/value heads, K head size
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from folio.model.attention import attend
from folio.model.cache import LayerContext
from folio.model.config import GPTConfig
from folio.model.eager import rms_norm, squared_relu


class RMSNorm(nn.Module):
    """x over its root mean square, times a learned gain."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


def make_norm(config: GPTConfig, width: int) -> nn.Module:
    if config.norm == "layernorm":
        return nn.LayerNorm(width, eps=config.norm_eps, bias=config.bias)
    return RMSNorm(width, config.norm_eps)


def rotary_table(head_size: int, length: int, theta: float) -> tuple[Tensor, Tensor]:
    """``cos`` and ``sin`` of position times frequency, (length, K) in fp32; both halves of K hold the same angles."""
    frequency = theta ** (-torch.arange(0, head_size, 2, dtype=torch.int64, device="cpu").float() / head_size)
    angle = torch.outer(torch.arange(length, dtype=torch.float32, device="cpu"), frequency)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x_BHTK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Rotate queries or keys by their position along T (RoPE, Su et al. 2021, eq. 34; half-split layout as in Llama).

    The time axis is the one before last. Positions are absolute within the sequence, so a cached decode passes the
    rows of ``cos``/``sin`` that belong to the new tokens; rows of a ragged batch pass (B, 1, T, K).
    """
    x1, x2 = x_BHTK.chunk(2, dim=-1)
    return x_BHTK * cos_TK + torch.cat((-x2, x1), dim=-1) * sin_TK


class Attention(nn.Module):
    """Causal self-attention, keys and values grouped (Ainslie et al. 2023), QK-norm if wanted (Henry et al. 2020).

    ``qkv`` holds the rows of q (H x K), then k (G x K), then v (G x K), so that one product makes all three.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        q_rows, kv_rows = config.attention_width, config.kv_heads * config.head_size
        self.stacked = {"qkv": (q_rows, kv_rows, kv_rows)}  # rows of the maps that one matrix holds
        self.qkv = nn.Linear(config.n_embd, q_rows + 2 * kv_rows, bias=config.bias)
        self.proj = nn.Linear(q_rows, config.n_embd, bias=config.bias)
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_size, config.norm_eps)
            self.k_norm = RMSNorm(config.head_size, config.norm_eps)

    def forward(self, x_BTC: Tensor, rotary: tuple[Tensor, Tensor] | None, cache: LayerContext | None = None) -> Tensor:
        config = self.config
        B, T, _ = x_BTC.shape
        heads = config.n_head + 2 * config.kv_heads
        qkv_BTHK = self.qkv(x_BTC).view(B, T, heads, config.head_size)
        q_BHTK, k_BGTK, v_BGTK = qkv_BTHK.transpose(1, 2).split(
            (config.n_head, config.kv_heads, config.kv_heads), dim=1
        )
        if config.qk_norm:
            q_BHTK, k_BGTK = self.q_norm(q_BHTK), self.k_norm(k_BGTK)
        if rotary is not None:
            cos, sin = rotary[0].to(q_BHTK.dtype), rotary[1].to(q_BHTK.dtype)
            q_BHTK, k_BGTK = rotate(q_BHTK, cos, sin), rotate(k_BGTK, cos, sin)
        dropout = config.dropout if self.training else 0.0
        if cache is None:
            y_BHTK = attend(q_BHTK, k_BGTK, v_BGTK, dropout=dropout)
        else:
            y_BHTK = cache.attend(q_BHTK, k_BGTK, v_BGTK, dropout=dropout)
        y_BTC = self.proj(y_BHTK.transpose(1, 2).reshape(B, T, config.attention_width))
        return F.dropout(y_BTC, config.dropout, self.training)


class MLP(nn.Module):
    """Two matrices around a non-linearity. For swiglu (Shazeer 2020) ``up`` holds the gate's rows, then the value's."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        rows = (config.hidden,) * (2 if config.activation == "swiglu" else 1)
        self.stacked = {"up": rows}
        self.up = nn.Linear(config.n_embd, sum(rows), bias=config.bias)
        self.proj = nn.Linear(config.hidden, config.n_embd, bias=config.bias)

    def forward(self, x_BTC: Tensor) -> Tensor:
        h = self.up(x_BTC)
        match self.config.activation:
            case "gelu":
                h = F.gelu(h, approximate="tanh")
            case "relu":
                h = F.relu(h)
            case "relu2":
                h = squared_relu(h)
            case "swiglu":
                gate, value = h.chunk(2, dim=-1)
                h = F.silu(gate) * value
        return F.dropout(self.proj(h), self.config.dropout, self.training)


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attn_norm = make_norm(config, config.n_embd)
        self.attn = Attention(config)
        self.mlp_norm = make_norm(config, config.n_embd)
        self.mlp = MLP(config)

    def forward(self, x_BTC: Tensor, rotary: tuple[Tensor, Tensor] | None, cache: LayerContext | None = None) -> Tensor:
        x_BTC = x_BTC + self.attn(self.attn_norm(x_BTC), rotary, cache)
        return cast(Tensor, x_BTC + self.mlp(self.mlp_norm(x_BTC)))
