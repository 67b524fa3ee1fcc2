"""Adapters on a model: put on, changed for one another, merged into the weights and taken out again."""

from __future__ import annotations

import math
import re
from typing import cast

import torch
from torch import Tensor, nn

from folio.errors import ArtifactError, ConfigError, nearest
from folio.finetuning.config_lora import LoraConfig
from folio.finetuning.low_rank import AdaptedLinear, LayerAdapter, row_lengths
from folio.finetuning.targets import Part, chosen_parts, linear_parts
from folio.model.build import skeleton
from folio.model.config import GPTConfig
from folio.model.gpt import GPT

DEFAULT = "default"


def add_lora(model: GPT, config: LoraConfig, name: str = DEFAULT) -> list[nn.Parameter]:
    """Freeze ``model``, put a new adapter on it, use it, and return its parameters: all that is trained from now on.

    B starts at zero, so the outputs stay as they are, to the bit. A is uniform in +-1 / sqrt(inputs), as in PEFT, drawn
    on the CPU from ``config.seed`` alone, so it is the same on every device.
    """
    parts = chosen_parts(model.config, config.targets)
    generator = torch.Generator().manual_seed(config.seed)
    tensors: dict[str, Tensor] = {}
    layers = prepare_layers(model, {part.layer for part in parts})
    for part in parts:
        bound = 1 / math.sqrt(part.inputs)
        A = torch.empty(config.rank, part.inputs).uniform_(-bound, bound, generator=generator)
        B = torch.zeros(part.stop - part.start, config.rank)
        tensors |= {parameter_name(part, "A"): A, parameter_name(part, "B"): B}
        if config.dora:
            layer = layers[part.layer]
            rows = layer.base_weight()[part.start : part.stop]
            tensors[parameter_name(part, "m")] = row_lengths(rows, A.to(layer.place), B.to(layer.place), 0.0)
    put_adapter(model, name, config, tensors, trainable=True)
    set_adapter(model, name)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def parameter_name(part: Part, slot: str) -> str:
    """The name in ``model.named_parameters()`` of an adapter's tensor: slot A, B or m (DoRA's magnitude)."""
    return f"{part.layer}.{part.name}_{slot}"


def prepare_layers(model: GPT, names: set[str]) -> dict[str, AdaptedLinear]:
    """The layers of these names, each made able to carry adapters; every parameter that is no adapter's is frozen."""
    parts = linear_parts(model.config)
    for name in sorted(names):
        layer = model.get_submodule(name)
        if isinstance(layer, nn.Linear):
            own = [part for part in parts if part.layer == name]
            adapted = AdaptedLinear(own, cast(nn.Parameter, layer.weight), layer.bias)
            model.set_submodule(name, adapted.train(layer.training))
    active = {id(parameter) for parameter in adapter_parameters(model).values()}
    for parameter in model.parameters():
        if id(parameter) not in active:
            parameter.requires_grad_(False)
    return {name: layer for name, layer in adapted_layers(model).items() if name in names}


def put_adapter(model: GPT, name: str, config: LoraConfig, tensors: dict[str, Tensor], *, trainable: bool) -> None:
    """Lay an adapter of these ``tensors``, by parameter name, beside the others of ``model``; it is not yet in use.

    :class:`ConfigError` if the name is taken or cannot be one.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ConfigError(f"'{name}' cannot be an adapter's name", "Use letters, digits, - and _.")
    if name in adapter_names(model):
        raise ConfigError(f"the model has an adapter '{name}' already", "Choose another name.")
    by_layer: dict[str, dict[str, nn.Parameter]] = {}
    for key, tensor in tensors.items():
        layer, _, slot = key.rpartition(".")
        by_layer.setdefault(layer, {})[slot] = nn.Parameter(tensor.detach().float(), requires_grad=trainable)
    layers = prepare_layers(model, set(by_layer))
    for layer, parameters in by_layer.items():
        layers[layer].idle[name] = LayerAdapter(config, parameters)


def adapted_layers(model: nn.Module) -> dict[str, AdaptedLinear]:
    """Every layer that can carry adapters, by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, AdaptedLinear)}


def adapter_names(model: GPT) -> list[str]:
    """The adapters that lie on ``model``, in use or not, in alphabetical order."""
    layers = adapted_layers(model).values()
    active = {layer.active for layer in layers if layer.active is not None and layer.config is not None}
    return sorted(active.union(*(layer.idle for layer in layers)))


def active_adapter(model: GPT) -> tuple[str, LoraConfig] | None:
    """Name and configuration of the adapter in use, or None."""
    for layer in adapted_layers(model).values():
        if layer.active is not None and layer.config is not None:
            return layer.active, layer.config
    return None


def adapter_parameters(model: GPT) -> dict[str, nn.Parameter]:
    """The parameters of the adapter in use, by the names that ``model.named_parameters()`` gives them."""
    return {
        f"{name}.{key}": parameter
        for name, layer in adapted_layers(model).items()
        for key, parameter in layer.named_parameters(recurse=False)
        if key not in ("base", "bias")
    }


def adapter_named(model: GPT, name: str) -> LayerAdapter:
    """The whole adapter ``name``, in use or not: its configuration, and its tensors by parameter name."""
    found: LayerAdapter | None = None
    for layer_name, layer in adapted_layers(model).items():
        own = layer.adapter(name)
        if own is not None:
            found = found or LayerAdapter(own.config)
            found.parameters.update({f"{layer_name}.{key}": tensor for key, tensor in own.parameters.items()})
    if found is None:
        raise _unknown(model, name)
    return found


def set_adapter(model: GPT, name: str | None) -> None:
    """Use the adapter ``name``, None for the base alone; what was merged is unmerged first.

    :class:`ConfigError` for a name that no adapter has.
    """
    if name is not None and name not in adapter_names(model):
        raise _unknown(model, name)
    unmerge(model)
    for layer in adapted_layers(model).values():
        layer.use(name)


def _unknown(model: GPT, name: str) -> ConfigError:
    known = adapter_names(model)
    guess = nearest(name, known)
    remedy = f"Did you mean {guess}?" if guess else f"It has: {', '.join(known) or 'none'}."
    return ConfigError(f"the model has no adapter '{name}'", remedy)


def merge(model: GPT) -> None:
    """Add the adapter in use to the weights themselves, in place. The base's own weights are kept for :func:`unmerge`.

    :class:`ArtifactError` where the base is in 4 bits.
    """
    layers = [layer for layer in adapted_layers(model).values() if layer.config is not None and layer.unmerged is None]
    for layer in layers:
        _refuse_rounded(layer)
    with torch.no_grad():
        for layer in layers:
            original = layer.base.detach().clone()
            layer.base.copy_(layer.adapted(original))
            layer.unmerged = original


def unmerge(model: GPT) -> None:
    """Put back the weights that :func:`merge` kept: the base again, to the bit."""
    with torch.no_grad():
        for layer in adapted_layers(model).values():
            if layer.unmerged is not None:
                layer.base.copy_(layer.unmerged)
                layer.unmerged = None


def merged(model: GPT, base: GPT | None = None) -> GPT:
    """A plain model in evaluation mode: ``base`` (``model``'s own by default) changed by the adapter in use.

    What no adapter changes is shared with the base, not copied. A model in 4 bits needs its full-precision ``base``:
    :class:`ArtifactError` without one, or with one of another shape.
    """
    if base is not None and _shape(base) != _shape(model):
        raise ArtifactError("the base to merge into has another shape than the adapted model", "Give its own base.")
    source = base if base is not None else model
    assert base is None or not adapted_layers(base), "the base to merge into carries adapters itself"
    weights = {name: weight.detach() for name, weight in source.named_parameters()}
    for name, layer in adapted_layers(model).items():
        if base is None:
            _refuse_rounded(layer)
            own = layer.weight
            weights[f"{name}.weight"] = own.clone() if layer.unmerged is not None else own  # unmerge writes in place
        else:
            weight = weights[f"{name}.weight"]
            weights[f"{name}.weight"] = layer.adapted(weight.to(layer.place)).to(weight.device)
    plain = skeleton(source.config)
    plain.load_state_dict({name: weights[name] for name, _ in plain.named_parameters()}, strict=True, assign=True)
    for name, buffer in source.named_buffers(recurse=False):
        plain.register_buffer(name, buffer, persistent=False)
    return plain.eval().requires_grad_(False)


def _shape(model: GPT) -> GPTConfig:
    return model.config.model_copy(update={"dropout": 0.0})


def _refuse_rounded(layer: AdaptedLinear) -> None:
    if "base" not in layer._parameters:
        raise ArtifactError(
            "this model's weights are in 4 bits, and merging into them would round the adapter away",
            "Merge into the full-precision base: open the base again and add the adapter to it.",
        )
