"""The base's linear weights in 4 bits, frozen: what makes LoRA into QLoRA (Dettmers et al. 2023).

NF4: each run of 64 weights is divided by its largest magnitude and rounded to the nearest of 16 values that halve a
normal distribution evenly. Double quantization: those magnitudes are rounded to 8 bits in turn, 256 of them sharing one
fp32 scale. A weight then takes 4 + 8 / 64 + 32 / (64 x 256) = 4.127 bits. Rounding and unrounding are bitsandbytes'.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from folio.errors import ConfigError, require
from folio.finetuning.low_rank import AdaptedLinear
from folio.finetuning.targets import Part, linear_parts
from folio.model.gpt import GPT

RUN = 64
"""Weights that share a magnitude."""
DEVICES = ("cpu", "cuda")


class FourBitLinear(AdaptedLinear):
    """A frozen linear layer that holds its weight as NF4 in buffers: no parameter, hence no gradient.

    Products are in autocast's dtype, else in that of x. The weight is unrounded for each product, forward and backward,
    and dropped after it.
    """

    packed: Tensor
    magnitudes: Tensor
    scales: Tensor
    offset: Tensor
    levels: Tensor

    def __init__(self, parts: list[Part], weight: Tensor, bias: nn.Parameter | None) -> None:
        super().__init__(parts, None, bias)
        self.shape = (weight.shape[0], weight.shape[1])
        functional = _bitsandbytes().functional
        packed, state = functional.quantize_4bit(
            weight.detach().contiguous(), blocksize=RUN, quant_type="nf4", compress_statistics=True
        )
        self.magnitudes_per_scale = int(state.state2.blocksize)
        for name, tensor in (
            ("packed", packed),
            ("magnitudes", state.absmax),
            ("scales", state.state2.absmax),
            ("offset", state.offset),
            ("levels", state.state2.code),
        ):
            self.register_buffer(name, tensor, persistent=False)

    @property
    def place(self) -> torch.device:
        return self.packed.device

    def product(self, x: Tensor) -> Tensor:
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        bias = None if self.bias is None else self.bias.to(x.dtype)
        y: Tensor = _Product.apply(x, self, bias)  # type: ignore[no-untyped-call]
        return y

    def base_weight(self) -> Tensor:
        return self.unrounded(torch.float32)

    @torch.no_grad()
    def unrounded(self, dtype: torch.dtype) -> Tensor:
        """The weight that the 4 bits stand for, (V, C)."""
        ops = torch.ops.bitsandbytes
        sizes = ops.dequantize_blockwise(
            self.magnitudes, self.scales, self.levels, self.magnitudes_per_scale, torch.float32
        )
        return cast(Tensor, ops.dequantize_4bit(self.packed, sizes + self.offset, RUN, "nf4", self.shape, dtype))

    @property
    def storage_bytes(self) -> int:
        """Bytes of the weight with all that unrounding it needs; 1 KiB of it are the 256 levels of a magnitude."""
        kept = (self.packed, self.magnitudes, self.scales, self.offset, self.levels)
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)


class _Product(torch.autograd.Function):
    """x W^T + b that keeps the 4 bits for the backward pass, not W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FourBitLinear, bias: Tensor | None) -> Tensor:
        ctx.layer = layer
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x, layer.unrounded(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.needs_input_grad[0]:
            return None, None, None
        with torch.autocast(dy.device.type, enabled=False):
            return dy @ ctx.layer.unrounded(dy.dtype), None, None


def quantize_base(model: GPT, dtype: torch.dtype | None = None) -> None:
    """Freeze ``model`` and keep the linear weights of its blocks as NF4, in place; embedding and head stay as they are.

    ``dtype``: of what is not rounded (embedding, head, norms, biases), None to leave it. On the CPU and on CUDA;
    :class:`ConfigError` elsewhere, :class:`MissingExtra` without bitsandbytes.
    """
    device = model.embed.weight.device
    if device.type not in DEVICES:
        raise ConfigError(
            f"4-bit weights run on {' and '.join(DEVICES)}, not on {device.type}", "Use --train.device cpu."
        )
    parts = linear_parts(model.config)
    for name in dict.fromkeys(part.layer for part in parts):
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear), "quantize the base before adapters are put on it"
        own = [part for part in parts if part.layer == name]
        model.set_submodule(name, FourBitLinear(own, linear.weight, linear.bias).train(linear.training))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        if dtype is not None:
            parameter.data = parameter.data.to(dtype)


def _bitsandbytes() -> Any:
    """The package. Its import warns of CPU kernels to be had from the network, which are not used here."""
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    before, logger.disabled = logger.disabled, True
    try:
        return require("bitsandbytes", "finetune")
    finally:
        logger.disabled = before
