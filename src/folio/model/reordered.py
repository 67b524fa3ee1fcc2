"""Weights in the order in which oneDNN multiplies many rows by them, laid out once instead of at every product.

The sums are the same to the last bit; a GELU is applied while its input is still in the registers. PyTorch's compiler
does this to models it freezes; here it is done by hand, with the operators that it uses.

N rows of activations, C inputs, V outputs
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from folio.model.gpt import GPT
from folio.model.layers import MLP
from folio.model.packed import PackedGPT

ROWS = 2048
"""About how many rows a product will have: the order is best for so many, and right for any."""


class ReorderedLinear(nn.Module):
    """A linear layer in ``dtype``, forward only, with a tanh GELU behind it if wanted; ``x`` may have another dtype."""

    def __init__(self, weight_VC: Tensor, bias_V: Tensor | None, dtype: torch.dtype, *, gelu: bool = False) -> None:
        super().__init__()
        self.dtype = dtype
        self.weight = _operators()._reorder_linear_weight(weight_VC.detach().to(dtype).contiguous(), ROWS)
        self.bias = None if bias_V is None else bias_V.detach().to(dtype)
        self.after: tuple[str, list[float], str] = ("gelu", [], "tanh") if gelu else ("none", [], "")

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., V)."""
        y: Tensor = _operators()._linear_pointwise(x.to(self.dtype), self.weight, self.bias, *self.after)
        return y


class _MLP(nn.Module):
    """An MLP around a GELU, which is part of its first product."""

    def __init__(self, mlp: MLP, dtype: torch.dtype) -> None:
        super().__init__()
        self.up = ReorderedLinear(mlp.up.weight, mlp.up.bias, dtype, gelu=True)
        self.proj = ReorderedLinear(mlp.proj.weight, mlp.proj.bias, dtype)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return cast(Tensor, self.proj(self.up(x_BTC)))


class ReorderedGPT(GPT):
    """A GPT for reading many tokens at once on the CPU: forward only; what is no matrix it shares with the model."""

    head: Any

    def logits(self, hidden_BTC: Tensor) -> Tensor:
        return cast(Tensor, self.head(hidden_BTC))


def scoring_head(model: GPT, dtype: torch.dtype) -> Tensor:
    """The output head for scoring in ``dtype``, (V, C), without padding; in a lower precision without its mean row.

    What all logits of a position have in common, no softmax feels, but rounding does: a trained GPT-2's lie near -100,
    where bf16 tells apart halves at best. Without the mean of the rows they lie near 0.
    """
    head_VC = model.head_weight.detach()[: model.config.vocab_size]
    if torch.finfo(dtype).bits < torch.finfo(head_VC.dtype).bits:
        head_VC = head_VC - head_VC.mean(0)
    return head_VC.to(dtype)


def reordering_helps(model: GPT, dtype: torch.dtype) -> bool:
    """Whether ``model`` lies on a CPU that multiplies ``dtype`` so, and is not laid out in a way of its own already."""
    plain = not isinstance(model, PackedGPT | ReorderedGPT)
    return plain and model.embed.weight.device.type == "cpu" and _works(dtype)


def reordered(model: GPT, dtype: torch.dtype) -> ReorderedGPT:
    """``model`` as it is now with its matrices reordered, in ``dtype``; a copy of these, so it ages with training.

    In a lower precision than the model's its logits are shifted, each position's by a number of its own:
    :func:`scoring_head`.
    """
    with torch.device("meta"):
        shadow = ReorderedGPT(model.config)
    for name, module in list(model.named_modules()):
        if isinstance(module, MLP) and model.config.activation == "gelu":
            shadow.set_submodule(name, _MLP(module, dtype))
        elif model.config.activation == "gelu" and ".mlp." in name:
            continue  # a part of an _MLP, whatever kind of layer it was
        elif isinstance(module, nn.Linear) and name != "head":
            shadow.set_submodule(name, ReorderedLinear(module.weight, module.bias, dtype))
        elif name and not any(module.children()) and name != "head":
            shadow.set_submodule(name, module)
    shadow.head = ReorderedLinear(scoring_head(model, dtype), None, dtype)
    for name, buffer in model.named_buffers(recurse=False):
        shadow.register_buffer(name, buffer, persistent=False)
    return shadow.eval()


def _operators() -> Any:
    return torch.ops.mkldnn


@cache
def _works(dtype: torch.dtype) -> bool:
    """Whether PyTorch has the operators here and they are right; nobody promises that a later version keeps them."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((64, 96), (160, 96), (160,)))
    try:
        with torch.no_grad():
            found = ReorderedLinear(weight, bias, dtype, gelu=True)(x)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    expected = F.gelu(F.linear(x.double(), weight.double(), bias.double()), approximate="tanh")
    error = (found.double() - expected).norm() / expected.norm()
    return bool(error < (1e-2 if dtype == torch.bfloat16 else 2e-6))
