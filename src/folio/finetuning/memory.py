"""What each method of fine-tuning keeps in memory for the weights, counted beforehand and measured.

Activations are not in it: they depend on the batch and hardly on the method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from folio.finetuning.config_lora import LoraConfig, Method
from folio.finetuning.four_bit import RUN, FourBitLinear
from folio.finetuning.lora import adapted_layers, adapter_parameters
from folio.finetuning.targets import chosen_parts, linear_parts
from folio.finetuning.trainable import trainable_parameters
from folio.model.build import skeleton
from folio.model.config import GPTConfig
from folio.model.gpt import GPT

_FP32 = 4
_LEVEL_BYTES = 256 * _FP32
_SCALE_RUN = 256
"""Magnitudes that share a scale, in bitsandbytes' double quantization."""


@dataclass(frozen=True, slots=True)
class MethodMemory:
    """Bytes of each kind, and how many weights are trained."""

    method: Method
    trainable: int
    base_bytes: int
    adapter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.base_bytes + self.adapter_bytes + self.gradient_bytes + self.optimizer_bytes


def method_memory(shape: GPTConfig, method: Method, lora: LoraConfig | None = None) -> MethodMemory:
    """Fine-tuning a model of this ``shape`` with AdamW: fp32 weights, gradients and two moments of each.

    For qlora the blocks' matrices take 4 bits with double quantization, everything else fp32; for head a tied embedding
    is there twice.
    """
    sizes = {name: weight.numel() for name, weight in skeleton(shape).named_parameters()}
    base, adapters = _FP32 * sum(sizes.values()), 0
    match method:
        case "full":
            trainable = sum(sizes.values())
        case "head":
            head = sizes["embed.weight"]
            base += _FP32 * head if shape.tie_embeddings else 0
            trainable = head + sum(size for name, size in sizes.items() if name.startswith("norm."))
        case "lora" | "qlora":
            lora = lora or LoraConfig()
            trainable = sum(
                lora.rank * (part.inputs + part.stop - part.start) + lora.dora * (part.stop - part.start)
                for part in chosen_parts(shape, lora.targets)
            )
            adapters = _FP32 * trainable
            if method == "qlora":
                matrices = [sizes[f"{layer}.weight"] for layer in {part.layer for part in linear_parts(shape)}]
                base += sum(four_bit_bytes(size) - _FP32 * size for size in matrices)
    return MethodMemory(method, trainable, base, adapters, _FP32 * trainable, 2 * _FP32 * trainable)


def four_bit_bytes(weights: int) -> int:
    """Bytes of a matrix of so many weights as NF4 with double quantization."""
    magnitudes = -(-weights // RUN)
    return -(-weights // 2) + magnitudes + _FP32 * -(-magnitudes // _SCALE_RUN) + _FP32 + _LEVEL_BYTES


def measured_memory(model: GPT, method: Method, optimizer_state: Mapping[str, Tensor]) -> MethodMemory:
    """The same of a model as it is between backward and step. Of the optimizer, what is not a number a weight (counts
    of steps) is left out."""
    adapters = adapter_parameters(model)
    trainable = trainable_parameters(model)
    base = [parameter for name, parameter in model.named_parameters() if name not in adapters]
    rounded = [layer for layer in adapted_layers(model).values() if isinstance(layer, FourBitLinear)]
    return MethodMemory(
        method,
        trainable=sum(parameter.numel() for parameter in trainable.values()),
        base_bytes=_bytes(base) + sum(layer.storage_bytes for layer in rounded),
        adapter_bytes=_bytes(adapters.values()),
        gradient_bytes=_bytes(parameter.grad for parameter in model.parameters() if parameter.grad is not None),
        optimizer_bytes=_bytes(tensor for tensor in optimizer_state.values() if tensor.ndim),
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
