"""Cross-entropy of the output head, a chunk of positions at a time, as (sum of nats, count of tokens).

N positions, n positions of one chunk, C channels, V rows of the head (padded vocabulary)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -100
CHUNK_BYTES = 256 * 2**20
SMALL_CHUNK_BYTES = 32 * 2**20
"""Of logits that are read once and dropped: what stays near the cores."""


def cross_entropy(
    hidden_NC: Tensor, head_VC: Tensor, targets_N: Tensor, vocab_size: int, *, chunk_bytes: int = CHUNK_BYTES
) -> tuple[Tensor, Tensor]:
    """Sum of -log p(target) in nats (fp32) over the targets that are not ``IGNORE``, and their count (int64).

    At most ``chunk_bytes`` of fp32 logits exist at any time. Gradients are made chunk by chunk during the forward pass,
    while the logits are at hand, so nothing is computed twice (the idea of Liger-Kernel, Hsu et al. 2024). Rows of the
    head from ``vocab_size`` on are padding: they get probability zero and no gradient.
    """
    count = (targets_N != IGNORE).sum()
    if torch.is_autocast_enabled(hidden_NC.device.type):
        hidden_NC = hidden_NC.to(torch.get_autocast_dtype(hidden_NC.device.type))
    nats: Tensor = _ChunkedCrossEntropy.apply(hidden_NC, head_VC, targets_N, vocab_size, chunk_bytes)  # type: ignore[no-untyped-call]
    return nats, count


def each_token_nats(
    hidden_NC: Tensor, head_VC: Tensor, targets_N: Tensor, vocab_size: int, *, chunk_bytes: int = CHUNK_BYTES
) -> Tensor:
    """-log p(target) in nats of every position, (N,) fp32, zero where the target is ``IGNORE``; with gradients.

    For losses that are no plain sum. As in :func:`cross_entropy` at most ``chunk_bytes`` of fp32 logits exist at any
    time, and padding rows get probability zero and no gradient; but what a position weighs is not known before the
    backward pass, so that computes the logits again.
    """
    if torch.is_autocast_enabled(hidden_NC.device.type):
        hidden_NC = hidden_NC.to(torch.get_autocast_dtype(hidden_NC.device.type))
    nats_N: Tensor = _EachTokenNats.apply(hidden_NC, head_VC, targets_N, vocab_size, chunk_bytes)  # type: ignore[no-untyped-call]
    return nats_N


def token_nats(hidden_NC: Tensor, head_VC: Tensor, targets_N: Tensor, vocab_size: int) -> Tensor:
    """-log p(target) in nats of every position, (N,) fp32, zero where the target is ``IGNORE``; no gradients."""
    with torch.no_grad():
        return each_token_nats(hidden_NC, head_VC, targets_N, vocab_size)


def chosen_log_probabilities(
    hidden_NC: Tensor, logits: Callable[[Tensor], Tensor], rows_M: Tensor, targets_M: Tensor, vocab_size: int
) -> tuple[Tensor, Tensor]:
    """log p of target m at position ``rows_M[m]``, (M,) fp32, and whether no other id is likelier, (M,); no gradients.

    ``rows_M`` ascends; a position may have several targets or none, and ``logits`` is asked once for each that has any,
    a few at a time.
    """
    with torch.no_grad():
        asked_n, place_M = torch.unique(rows_M, return_inverse=True)
        log_p_M = torch.empty(len(rows_M), dtype=torch.float32, device=hidden_NC.device)
        likeliest_M = torch.empty(len(rows_M), dtype=torch.bool, device=hidden_NC.device)
        size, first = max(1, SMALL_CHUNK_BYTES // (4 * vocab_size)), 0
        for start in range(0, len(asked_n), size):
            log_p_nV = F.log_softmax(logits(hidden_NC[asked_n[start : start + size]]), dim=-1, dtype=torch.float32)
            last = int(torch.searchsorted(place_M, start + len(log_p_nV)))
            place, target = place_M[first:last] - start, targets_M[first:last]
            log_p_M[first:last] = log_p_nV[place, target]
            likeliest_M[first:last] = log_p_nV.argmax(-1)[place] == target
            first = last
        return log_p_M, likeliest_M


def _chunks(hidden_NC: Tensor, targets_N: Tensor, rows: int, chunk_bytes: int) -> list[tuple[Tensor, Tensor]]:
    size = max(1, chunk_bytes // (4 * rows))
    return list(zip(torch.split(hidden_NC, size), torch.split(targets_N, size), strict=True))


def _logits(hidden_nC: Tensor, head_VC: Tensor, vocab_size: int) -> Tensor:
    logits_nV = hidden_nC @ head_VC.T
    if vocab_size < head_VC.shape[0]:
        logits_nV[:, vocab_size:] = float("-inf")
    return logits_nV


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_NC: Tensor, head_VC: Tensor, targets_N: Tensor, vocab_size: int, chunk_bytes: int
    ) -> Tensor:
        weight_VC = head_VC.to(hidden_NC.dtype)
        needs_hidden, needs_head = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        total = torch.zeros((), dtype=torch.float32, device=hidden_NC.device)
        grad_hidden: list[Tensor] = []
        grad_head: Tensor | None = None
        with torch.autocast(hidden_NC.device.type, enabled=False):
            for hidden_nC, target_n in _chunks(hidden_NC, targets_N, weight_VC.shape[0], chunk_bytes):
                logits_nV = _logits(hidden_nC, weight_VC, vocab_size)
                learned_n1 = (target_n != IGNORE)[:, None]
                index_n1 = target_n.clamp(min=0)[:, None]
                log_p_n1 = F.log_softmax(logits_nV, dim=-1, dtype=torch.float32).gather(1, index_n1)
                total -= (log_p_n1 * learned_n1).sum()
                if not (needs_hidden or needs_head):
                    continue
                slope_nV = torch.softmax(logits_nV, dim=-1)  # in the dtype of the products that follow
                slope_nV.scatter_(1, index_n1, torch.expm1(log_p_n1).to(slope_nV.dtype))
                if torch.compiler.is_compiling() or slope_nV.device.type != "cpu" or not bool(learned_n1.all()):
                    slope_nV.mul_(learned_n1)
                if needs_hidden:
                    grad_hidden.append(slope_nV @ weight_VC)
                if needs_head:
                    part = (slope_nV.T @ hidden_nC).to(head_VC.dtype)
                    grad_head = part if grad_head is None else grad_head.add_(part)
                    del part
                del logits_nV, slope_nV  # before the next chunk's are made
        ctx.save_for_backward(torch.cat(grad_hidden) if needs_hidden else None, grad_head)
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_head = ctx.saved_tensors
        return (
            None if grad_hidden is None else grad_hidden * grad_total.to(grad_hidden.dtype),
            None if grad_head is None else grad_head * grad_total.to(grad_head.dtype),
            None,
            None,
            None,
        )


class _EachTokenNats(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_NC: Tensor, head_VC: Tensor, targets_N: Tensor, vocab_size: int, chunk_bytes: int
    ) -> Tensor:
        weight_VC = head_VC.to(hidden_NC.dtype)
        parts = []
        with torch.autocast(hidden_NC.device.type, enabled=False):
            for hidden_nC, target_n in _chunks(hidden_NC, targets_N, weight_VC.shape[0], chunk_bytes):
                log_p_nV = F.log_softmax(_logits(hidden_nC, weight_VC, vocab_size), dim=-1, dtype=torch.float32)
                log_p_n = log_p_nV.gather(1, target_n.clamp(min=0)[:, None])[:, 0]
                parts.append(log_p_n.neg() * (target_n != IGNORE))
                del log_p_nV  # before the next chunk's are made
        nats_N = torch.cat(parts)
        ctx.save_for_backward(hidden_NC, head_VC, targets_N, nats_N)  # the head itself: a copy would be kept for good
        ctx.vocab_size, ctx.chunk_bytes = vocab_size, chunk_bytes
        ctx.needs_hidden, ctx.needs_head = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        return nats_N

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor | None, ...]:
        hidden_NC, head_VC, targets_N, nats_N = ctx.saved_tensors
        weight_VC = head_VC.to(hidden_NC.dtype)
        weighed_N = grad_N * (targets_N != IGNORE)
        grad_hidden: list[Tensor] = []
        grad_head: Tensor | None = None
        start = 0
        with torch.autocast(hidden_NC.device.type, enabled=False):
            for hidden_nC, target_n in _chunks(hidden_NC, targets_N, weight_VC.shape[0], ctx.chunk_bytes):
                part = slice(start, start := start + len(target_n))
                slope_nV = torch.softmax(_logits(hidden_nC, weight_VC, ctx.vocab_size), dim=-1)
                at_target_n1 = torch.expm1(-nats_N[part, None]).to(slope_nV.dtype)
                slope_nV.scatter_(1, target_n.clamp(min=0)[:, None], at_target_n1)
                slope_nV.mul_(weighed_N[part, None])
                if ctx.needs_hidden:
                    grad_hidden.append(slope_nV @ weight_VC)
                if ctx.needs_head:
                    product = (slope_nV.T @ hidden_nC).to(head_VC.dtype)
                    grad_head = product if grad_head is None else grad_head.add_(product)
                    del product
                del slope_nV
        return (torch.cat(grad_hidden) if ctx.needs_hidden else None, grad_head, None, None, None)
