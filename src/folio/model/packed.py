"""Weights laid out for generating one token at a time on a CPU.

A decode step multiplies one row by every matrix of the model, so it is as fast as memory is read, and torch's one-row
product reads at a sixth of this memory's speed. An embedding bag computes the same thing, ``sum_k x[k] * row[k]``, and
its kernel (FBGEMM's, on x86) reads at half of it. So a matrix is kept as blocks of outputs, each block as rows over its
inputs: a bag per block, memory read from front to back, the same sums whatever the number of threads.

N rows of activations, C inputs, V outputs, J blocks, W outputs a block (V <= J x W)
"""

from __future__ import annotations

import copy
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from folio.model.config import GPTConfig
from folio.model.gpt import GPT

FEW_ROWS = 4
"""Up to so many rows the bags are used, above it matrix products (measured: they cross between 4 and 8)."""


def block_width(outputs: int) -> int:
    """Outputs a block: the widest that divides them, or 128 with the last block padded; fewer for tiny layers."""
    return next((width for width in (192, 128, 256, 64) if outputs % width == 0), min(128, -(-outputs // 16) * 16))


class PackedLinear(nn.Module):
    """A linear layer, forward only: ``packed`` holds (J x C, W) in the weight's dtype."""

    few_rows = FEW_ROWS
    packed: Tensor
    bias: Tensor | None

    def __init__(self, weight_VC: Tensor, bias_V: Tensor | None = None) -> None:
        super().__init__()
        self.outputs, self.inputs = weight_VC.shape
        self.width = block_width(self.outputs)
        self.blocks = -(-self.outputs // self.width)
        padded_VC = F.pad(weight_VC.detach(), (0, 0, 0, self.blocks * self.width - self.outputs))
        rows = padded_VC.view(self.blocks, self.width, self.inputs).transpose(1, 2).reshape(-1, self.width)
        self.register_buffer("packed", self.pack(rows))
        self.register_buffer("bias", None if bias_V is None else bias_V.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., V)."""
        x_NC = x.reshape(-1, self.inputs)
        y_JNW = self.bags(x_NC) if x_NC.shape[0] <= self.few_rows else self.products(x_NC)
        y_NV = y_JNW.transpose(0, 1).reshape(x_NC.shape[0], -1)[:, : self.outputs]
        if self.bias is not None:
            y_NV = y_NV + self.bias
        return y_NV.view(*x.shape[:-1], self.outputs)

    def bags(self, x_NC: Tensor) -> Tensor:
        """The product by embedding bags, one for each block and row: (J, N, W)."""
        ids, offsets = _bag_index(self.blocks, x_NC.shape[0], self.inputs)
        weights = x_NC.expand(self.blocks, -1, -1).reshape(-1)
        return self.bag_sums(ids, offsets, weights).view(self.blocks, -1, self.width)

    def products(self, x_NC: Tensor) -> Tensor:
        """The product block by block, for many rows: (J, N, W)."""
        return torch.bmm(x_NC.expand(self.blocks, -1, -1), self.values_JCW())

    def embedding(self, ids: Tensor) -> Tensor:
        """The weight's rows of these ids, (..., C): a tied embedding read from the packed head."""
        block, column = ids // self.width, ids % self.width
        return self.packed.view(self.blocks, self.inputs, self.width)[block, :, column]

    def weight_VC(self) -> Tensor:
        """The weight as it was, (V, C), made anew."""
        return self.values_JCW().transpose(1, 2).reshape(-1, self.inputs)[: self.outputs]

    # What a kind of storage decides.

    def pack(self, rows: Tensor) -> Tensor:
        return rows.contiguous()

    def bag_sums(self, ids: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        return torch.embedding_bag(self.packed, ids, offsets, False, 0, False, weights)[0]

    def values_JCW(self) -> Tensor:
        return self.packed.view(self.blocks, self.inputs, self.width)


@cache
def _bag_index(blocks: int, rows: int, inputs: int) -> tuple[Tensor, Tensor]:
    """Which packed rows each bag sums and where each bag begins; layers of one shape share them."""
    with torch.inference_mode(False):
        ids_JC = torch.arange(blocks * inputs, dtype=torch.int32).view(blocks, 1, inputs)
        ids = ids_JC.expand(-1, rows, -1).reshape(-1)
        return ids, torch.arange(0, blocks * rows * inputs, inputs, dtype=torch.int32)


class PackedEmbedding(nn.Module):
    """The token embedding read from the packed output head it is tied to."""

    def __init__(self, head: PackedLinear) -> None:
        super().__init__()
        self.head = head

    def forward(self, ids: Tensor) -> Tensor:
        return self.head.embedding(ids)


class PackedGPT(GPT):
    """A GPT whose matrices are packed: forward only, on the CPU, no gradients, nothing to save."""

    packed_head: PackedLinear

    def __init__(self, config: GPTConfig) -> None:
        with torch.device("meta"):
            super().__init__(config)

    @property
    def head_weight(self) -> Tensor:
        weight_VC = self.packed_head.weight_VC()
        return F.pad(weight_VC, (0, 0, 0, self.config.padded_vocab_size - weight_VC.shape[0]))

    def logits(self, hidden_BTC: Tensor) -> Tensor:
        return self.packed_head(hidden_BTC)  # type: ignore[no-any-return]


def packing_helps(model: GPT) -> bool:
    """Whether this model's device and dtype have the fast bags (an x86 CPU with FBGEMM, fp32 or bf16), yet unused."""
    if isinstance(model, PackedGPT):
        return False
    weight = model.embed.weight
    known = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.bfloat16)
    return known and "fbgemm" in torch.backends.quantized.supported_engines


def pack(model: GPT, kind: type[PackedLinear] = PackedLinear) -> PackedGPT:
    """A copy of ``model`` for generation on the CPU, in the same dtype; the head without its padding rows."""
    packed = PackedGPT(model.config)
    packed.packed_head = kind(model.head_weight[: model.config.vocab_size])
    for name, module in list(model.named_modules()):
        if name in ("embed", "head") or any(module.children()):
            continue
        linear = isinstance(module, nn.Linear)
        packed.set_submodule(name, kind(module.weight, module.bias) if linear else copy.deepcopy(module))
    if model.config.tie_embeddings:
        packed.set_submodule("embed", PackedEmbedding(packed.packed_head))
    else:
        packed.embed = copy.deepcopy(model.embed)
        del packed.head
    for name, buffer in model.named_buffers(recurse=False):
        packed.register_buffer(name, buffer.clone(), persistent=False)
    assert not any(tensor.is_meta for tensor in (*packed.parameters(), *packed.buffers()))
    return packed.eval().requires_grad_(False)
