"""Which weights a method of fine-tuning trains: all of them, adapters, adapters on a base in 4 bits, or the head."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from folio.finetuning.config_lora import LoraConfig, Method
from folio.finetuning.four_bit import quantize_base
from folio.finetuning.lora import add_lora
from folio.model.config import GPTConfig
from folio.model.gpt import GPT


def make_trainable(model: GPT, method: Method, lora: LoraConfig | None = None) -> dict[str, nn.Parameter]:
    """Prepare ``model``, in place, for one method, and return what it trains by name: all else is frozen.

    full: every weight. lora, qlora: new adapters as ``lora`` says, for qlora after the base was rounded to 4 bits.
    head: output head and final norm, the head cut loose from the embedding first (:func:`untie`), so that what the
    blocks read stays as it is.
    """
    match method:
        case "full":
            model.requires_grad_(True)
        case "head":
            untie(model)
            model.requires_grad_(False)
            model.head.requires_grad_(True)
            model.norm.requires_grad_(True)
        case "lora" | "qlora":
            if method == "qlora":
                quantize_base(model)
            add_lora(model, lora or LoraConfig())
    return trainable_parameters(model)


def set_dropout(model: GPT, dropout: float) -> None:
    """Let the model's own layers drop that share of what they write while training; in place."""
    for module in model.modules():
        if isinstance(config := getattr(module, "config", None), GPTConfig):
            cast(Any, module).config = config.model_copy(update={"dropout": dropout})


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What is trained, by name. Names depend on the model's shape and the method alone."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def untie(model: GPT) -> None:
    """Give a model whose output head is its embedding a head of its own, at first a copy; in place."""
    if not model.config.tie_embeddings:
        return
    rows, width = model.embed.weight.shape
    head: nn.Linear = nn.utils.skip_init(nn.Linear, width, rows, bias=False)  # type: ignore[no-untyped-call]
    head.weight = nn.Parameter(model.embed.weight.detach().clone())
    model.head = head.train(model.training)
    model.config = model.config.model_copy(update={"tie_embeddings": False})
