"""RMS norm and squared ReLU with their backward written out: fewer passes over memory where nothing is compiled.

PyTorch has no kernel of its own for either on a CPU and takes their backward apart into a dozen small operations, which
cost a small model up to a tenth of its step. Elsewhere, and under torch.compile, the plain formulas are used.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x over its root mean square along the last axis, times ``weight`` (Zhang and Sennrich 2019).

    Statistics are in fp32. Under autocast the result is in autocast's dtype, ready for the product that follows.
    """
    autocast = torch.is_autocast_enabled(x.device.type)
    dtype = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
    if _worthwhile(x):
        y: Tensor = _RMSNorm.apply(x, weight, eps, dtype)  # type: ignore[no-untyped-call]
        return y
    return F.rms_norm(x, weight.shape, weight.to(x.dtype), eps).to(dtype)


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0) squared (So et al. 2021)."""
    if _worthwhile(x):
        y: Tensor = _SquaredReLU.apply(x)  # type: ignore[no-untyped-call]
        return y
    return F.relu(x).square()


def _worthwhile(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        exact = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=exact)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        y = torch.mul(x, scale, out=torch.empty(x.shape, dtype=dtype))
        ctx.save_for_backward(x, weight, scale)
        return y.mul_(weight.to(dtype))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        normal = x * scale
        product = dy * normal
        d_weight = product.flatten(0, -2).sum(0).to(weight.dtype)
        mean = (product @ weight.to(product.dtype)).div_(x.shape[-1]).unsqueeze(-1)
        dx = (dy * weight).sub_(normal.mul_(mean)).mul_(scale)
        return dx.to(x.dtype), d_weight, None, None


class _SquaredReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = x.clamp_min(0)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        positive: Tensor = ctx.saved_tensors[0]
        return (dy * positive).mul_(2)
