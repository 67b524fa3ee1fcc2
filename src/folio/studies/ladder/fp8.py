"""Linear layers whose products are of 8-bit floats: each tensor scaled so that its largest number is the format's.

N rows (tokens), I inputs, O outputs; sizes are multiples of 16
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

FORWARD, BACKWARD = torch.float8_e4m3fn, torch.float8_e5m2
"""Weights and activations need digits, gradients need range (Micikevicius et al. 2022, section 3)."""


def scaled(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``x`` in ``dtype``, and the fp32 factor that gives it back."""
    factor = x.detach().abs().amax().float().clamp(min=1e-12) / torch.finfo(dtype).max
    return (x.float() / factor).to(dtype), factor


def product(a_RK: tuple[Tensor, Tensor], b_KC: tuple[Tensor, Tensor], out: torch.dtype) -> Tensor:
    """A row-major times a column-major matrix, each with its factor."""
    return torch._scaled_mm(a_RK[0], b_KC[0], scale_a=a_RK[1], scale_b=b_KC[1], out_dtype=out)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NI: Tensor, weight_OI: Tensor) -> Tensor:
        x, w = scaled(x_NI, FORWARD), scaled(weight_OI, FORWARD)
        ctx.save_for_backward(*x, *w)
        ctx.dtypes = x_NI.dtype, weight_OI.dtype
        return product(x, (w[0].t(), w[1]), torch.bfloat16)

    @staticmethod
    def backward(ctx: Any, dy_NO: Tensor) -> tuple[Tensor | None, ...]:
        x, x_factor, w, w_factor = ctx.saved_tensors
        dy, factor = scaled(dy_NO.contiguous(), BACKWARD)
        columns_OI = w.t().contiguous().t()
        dx_NI = product((dy, factor), (columns_OI, w_factor), torch.bfloat16)
        columns_NI = x.t().contiguous().t()
        dw_OI = product((dy.t().contiguous(), factor), (columns_NI, x_factor), torch.bfloat16)
        return dx_NI.to(ctx.dtypes[0]), dw_OI.to(ctx.dtypes[1])


class Fp8Linear(nn.Linear):
    """A linear layer that multiplies in fp8 and gives bf16; weights stay as they are."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _Product.apply(x.flatten(0, -2), self.weight)  # type: ignore[no-untyped-call]
        y = y.view(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias.to(y.dtype)


def use_fp8(blocks: nn.Module) -> int:
    """Make every linear layer within ``blocks`` multiply in fp8, its parameters kept; returns how many there are.

    A layer whose sizes are no multiples of 16 stays as it is.
    """
    changed = 0
    for parent in list(blocks.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and layer.in_features % 16 == layer.out_features % 16 == 0:
                with torch.device("meta"):
                    made = Fp8Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
                made.weight, made.bias = layer.weight, layer.bias
                setattr(parent, name, made)
                changed += 1
    return changed
