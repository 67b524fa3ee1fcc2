"""A model without weights, or with weights not yet written: for whoever brings them from a file."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.model.layers import rotary_table


def skeleton(config: GPTConfig) -> GPT:
    """The model on torch's meta device: names and shapes, no memory, nothing drawn."""
    with torch.device("meta"), _nothing_drawn():
        return GPT(config)


@contextmanager
def _nothing_drawn() -> Iterator[None]:
    """Layers made inside leave their weights as they are; drawing on the meta device would load torch.compile first."""
    kinds: tuple[type[nn.Module], ...] = (nn.Linear, nn.Embedding)
    kept = [getattr(kind, "reset_parameters") for kind in kinds]  # noqa: B009
    try:
        for kind in kinds:
            setattr(kind, "reset_parameters", lambda self: None)  # noqa: B010 - mypy refuses to assign a method
        yield
    finally:
        for kind, method in zip(kinds, kept, strict=True):
            setattr(kind, "reset_parameters", method)  # noqa: B010


def twin(model: GPT, weights: Mapping[str, Tensor]) -> GPT:
    """A model like ``model`` in all but its parameters, which are ``weights`` by name, not copied.

    Layers may be of any kind. Buffers are shared.
    """
    kept = {id(buffer): buffer for buffer in model.buffers()}
    empty = {id(p): nn.Parameter(p.to("meta"), requires_grad=p.requires_grad) for p in model.parameters()}
    made = copy.deepcopy(model, {**kept, **empty})
    own = {name: nn.Parameter(weights[name], requires_grad=p.requires_grad) for name, p in made.named_parameters()}
    made.load_state_dict(own, strict=True, assign=True)
    return made


def allocate(config: GPTConfig, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> GPT:
    """The model with memory for its weights and nothing in it, but for the padding rows, which are zero.

    No weight is drawn only to be overwritten. The rotary table stays in fp32 whatever the weights are.
    """
    model = skeleton(config)
    with torch.no_grad():
        empty = {name: torch.empty(w.shape, dtype=dtype, device=device) for name, w in model.named_parameters()}
        for name in ("embed.weight", "head.weight"):
            if name in empty:
                empty[name][config.vocab_size :] = 0
        model.load_state_dict(empty, strict=True, assign=True)
    if config.position == "rope":
        cos, sin = rotary_table(config.head_size, config.block_size, config.rope_theta)
        model.cos, model.sin = cos.to(device), sin.to(device)
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    return model
