"""How much work a token of fine-tuning is, for MFU."""

from __future__ import annotations

from collections.abc import Iterable

from folio.finetuning.config_lora import Method
from folio.finetuning.examples import Example
from folio.model.accounting import forward_flops
from folio.model.config import GPTConfig


def attended(examples: Iterable[Example]) -> int:
    """The length of the example that a token stands in, on average over tokens: what its attention looks back on."""
    lengths = [example.length for example in examples]
    return round(sum(length**2 for length in lengths) / sum(lengths))


def method_flops(shape: GPTConfig, method: Method, context: int) -> int:
    """Operations of a training step per token, in examples of ``context`` tokens.

    Every weight is used forward. Where all are trained, backward is twice as much: for inputs and for weights. Frozen
    weights need no gradient of their own, so with adapters backward is as much as forward (their own products are left
    out). Of the head alone only the head's two products run backward.
    """
    forward = forward_flops(shape, context)
    match method:
        case "full":
            return 3 * forward
        case "lora" | "qlora":
            return 2 * forward
        case "head":
            return forward + 2 * 2 * shape.vocab_size * shape.n_embd
