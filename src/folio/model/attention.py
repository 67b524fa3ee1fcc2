"""Attention proper: which kernel computes softmax(q k^T) v, chosen by what was measured.

B batch, T queries, S keys, H heads, G key/value heads, K head size
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

QUERY_BLOCK = 128
LONGEST_KEPT = 2048
SHORT = 384
"""Up to so many keys products beat the fused kernel on a CPU where a bias is added (measured: they cross near 512)."""


def attend(
    q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, *, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """Scaled dot-product attention, (B, H, T, K). Without a ``mask`` it is causal, and needs S = T or T = 1.

    ``mask`` is broadcastable to (B, H, T, S): boolean, true where a query may look, or in the dtype of ``q`` and added
    to the scores.
    """
    T, S = q_BHTK.shape[-2], k_BGSK.shape[-2]
    grouped = k_BGSK.shape[1] != q_BHTK.shape[1]
    if _products_are_faster(q_BHTK, S) and mask is None and T == S:
        return _causal_products(q_BHTK, k_BGSK, v_BGSK, dropout)
    if mask is not None and mask.is_floating_point() and not dropout and _biased_products_are_faster(q_BHTK, S):
        return _biased_products(q_BHTK, k_BGSK, v_BGSK, mask)
    causal = mask is None and T > 1
    assert not causal or T == S
    return F.scaled_dot_product_attention(
        q_BHTK, k_BGSK, v_BGSK, attn_mask=mask, dropout_p=dropout, is_causal=causal, enable_gqa=grouped
    )


def kept_probabilities(device_type: str, T: int) -> int:
    """How many attention weights training keeps for backward, per head and sequence of ``T`` tokens."""
    if device_type != "cpu" or T > LONGEST_KEPT:
        return 0
    return sum((stop - start) * stop for start, stop in _query_blocks(T))


def _products_are_faster(q_BHTK: Tensor, T: int) -> bool:
    """Where matrix products beat the fused kernel on a CPU: always in training, since its backward computes the
    probabilities again; otherwise in bf16, and in fp32 for short contexts.
    """
    if q_BHTK.device.type != "cpu" or T > LONGEST_KEPT or T == 1 or torch.compiler.is_compiling():
        return False
    training = torch.is_grad_enabled() and q_BHTK.requires_grad
    return training or q_BHTK.dtype == torch.bfloat16 or T <= 256


def _biased_products_are_faster(q_BHTK: Tensor, S: int) -> bool:
    return q_BHTK.device.type == "cpu" and S <= SHORT and not torch.is_grad_enabled()


def _biased_products(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, bias: Tensor) -> Tensor:
    """The same by matrix products, no gradients: O(T S) memory."""
    B, H, T, K = q_BHTK.shape
    if k_BGSK.shape[1] != H:
        k_BGSK, v_BGSK = (x.repeat_interleave(H // x.shape[1], dim=1) for x in (k_BGSK, v_BGSK))
    S = k_BGSK.shape[2]
    q, k, v = q_BHTK.reshape(B * H, T, K), k_BGSK.reshape(B * H, S, K), v_BGSK.reshape(B * H, S, K)
    scores = torch.baddbmm(bias.expand(B, H, T, S).reshape(B * H, T, S), q, k.mT, alpha=K**-0.5)
    return torch.bmm(torch.softmax(scores, dim=-1), v).view(B, H, T, K)


def _causal_products(q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, dropout: float) -> Tensor:
    """The same by matrix products over blocks of queries, the probabilities kept for backward: O(T^2) memory."""
    H, G = q_BHTK.shape[1], k_BGTK.shape[1]
    if G != H:
        k_BGTK = k_BGTK.repeat_interleave(H // G, dim=1)
        v_BGTK = v_BGTK.repeat_interleave(H // G, dim=1)
    y: Tensor = _CausalProducts.apply(q_BHTK, k_BGTK, v_BGTK, dropout)  # type: ignore[no-untyped-call]
    return y


class _CausalProducts(torch.autograd.Function):
    """Each block of queries meets only the keys up to its end, so that about half of the square is never computed.

    t queries of one block, s keys up to its end, N = B x H
    """

    @staticmethod
    def forward(ctx: Any, q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, dropout: float) -> Tensor:
        B, H, T, K = q_BHTK.shape
        q, k, v = (x.reshape(B * H, T, K) for x in (q_BHTK, k_BHTK, v_BHTK))
        y = q.new_empty(B, T, H, K).transpose(1, 2)
        kept = []
        for start, stop in _query_blocks(T):
            scores_Nts = torch.baddbmm(
                _future(start, stop, q.dtype), q[:, start:stop], k[:, :stop].mT, beta=1.0, alpha=K**-0.5
            )
            weights = torch.softmax(scores_Nts, dim=-1)
            dropped = F.dropout(weights, dropout) if dropout else weights
            y[:, :, start:stop] = (dropped @ v[:, :stop]).view(B, H, stop - start, K)
            kept += [weights, dropped] if dropout else [weights]
        ctx.save_for_backward(q, k, v, *kept)
        ctx.shape, ctx.dropout = (B, H, T, K), dropout
        return y

    @staticmethod
    def backward(ctx: Any, dy_BHTK: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        B, H, T, K = ctx.shape
        dy = dy_BHTK.reshape(B * H, T, K)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for start, stop in _query_blocks(T):
            weights = kept.pop(0)
            dropped = kept.pop(0) if ctx.dropout else weights
            dv[:, :stop] += dropped.mT @ dy[:, start:stop]
            slope = dy[:, start:stop] @ v[:, :stop].mT
            if ctx.dropout:
                slope = slope * (dropped != 0) / (1 - ctx.dropout)
            slope = torch._softmax_backward_data(slope, weights, -1, slope.dtype)
            zero = slope.new_zeros(())
            dq[:, start:stop] = torch.baddbmm(zero, slope, k[:, :stop], beta=0.0, alpha=K**-0.5)
            dk[:, :stop] += torch.baddbmm(zero, slope.mT, q[:, start:stop], beta=0.0, alpha=K**-0.5)
        return dq.view(B, H, T, K), dk.view(B, H, T, K), dv.view(B, H, T, K), None


def _query_blocks(T: int) -> list[tuple[int, int]]:
    size = max(QUERY_BLOCK, -(-T // 8))
    return [(start, min(start + size, T)) for start in range(0, T, size)]


@lru_cache(maxsize=64)
def _future(start: int, stop: int, dtype: torch.dtype) -> Tensor:
    """Minus infinity where a key lies after the query, (t, s)."""
    return torch.full((stop - start, stop), float("-inf"), dtype=dtype).triu(start + 1)
