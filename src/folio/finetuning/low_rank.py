"""A frozen linear layer with a low-rank change on top (LoRA, Hu et al. 2021; DoRA, Liu et al. 2024).

x (..., C) inputs, y (..., V) outputs, r rank, R rows of one part of the layer, s scaling
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from folio.finetuning.config_lora import LoraConfig
from folio.finetuning.targets import Part


@dataclass
class LayerAdapter:
    """One adapter in one layer: parameters by ``part_A`` (r, C), ``part_B`` (R, r) and, for DoRA, ``part_m`` (R,)."""

    config: LoraConfig
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)


class AdaptedLinear(nn.Module):
    """y = x W^T + b with W and b frozen, changed by the adapter in use, if any.

    The adapter in use is among the layer's parameters, the others wait in ``idle``. It has no inner modules and is no
    ``nn.Linear``, so nobody mistakes it for the bare base: ``weight`` is the matrix that it amounts to.
    """

    base: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, parts: list[Part], base: nn.Parameter | None, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.rows = {part.name: (part.start, part.stop) for part in parts}
        if base is not None:
            self.base = base
        self.register_parameter("bias", bias)
        self.requires_grad_(False)
        self.idle: dict[str, LayerAdapter] = {}
        self.active: str | None = None
        self.config: LoraConfig | None = None  # of the adapter in use, if it has a part in this layer
        self.unmerged: Tensor | None = None  # the base's own weight, while an adapter is merged into it

    # What a kind of storage decides.

    def product(self, x: Tensor) -> Tensor:
        """x W^T + b."""
        return F.linear(x, self.base, self.bias)

    def base_weight(self) -> Tensor:
        """W, (V, C)."""
        return self.base.detach()

    # The adapter in use.

    def use(self, name: str | None) -> None:
        """Change to the adapter ``name`` (None, or one without a part in this layer: the base alone)."""
        if self.active is not None and (kept := self.adapter(self.active)) is not None:
            self.idle[self.active] = kept
            for key in kept.parameters:
                delattr(self, key)
        self.active, self.config = name, None
        if name is not None and name in self.idle:
            adapter = self.idle.pop(name)
            self.config = adapter.config
            for key, parameter in adapter.parameters.items():
                parameter.data = parameter.data.to(self.place)
                self.register_parameter(key, parameter)

    def adapter(self, name: str) -> LayerAdapter | None:
        """What the adapter ``name`` has in this layer, in use or not; None if it has no part here."""
        if name == self.active and self.config is not None:
            return LayerAdapter(self.config, {key: cast(nn.Parameter, self._parameters[key]) for key in self._keys()})
        return self.idle.get(name)

    def _keys(self) -> list[str]:
        return [key for key in self._parameters if key not in ("base", "bias")]

    @property
    def place(self) -> torch.device:
        return self.base.device

    def forward(self, x: Tensor) -> Tensor:
        y = self.product(x)
        if self.config is None or self.unmerged is not None:
            return y
        if self.config.dropout and self.training:
            x = F.dropout(x, self.config.dropout)
        changes = [self._change(name, x, y[..., start:stop]) for name, (start, stop) in self.rows.items()]
        return y + (changes[0] if len(changes) == 1 else torch.cat(changes, dim=-1))

    def _change(self, name: str, x: Tensor, y_R: Tensor) -> Tensor:
        """What the adapter adds to the outputs ``y_R`` of one part."""
        if f"{name}_A" not in self._parameters:
            return torch.zeros_like(y_R)
        assert self.config is not None
        A, B, magnitude = self._of(name)
        low = F.linear(x, A.to(x.dtype)) * self.config.scaling
        change = F.linear(low, B.to(low.dtype))
        if magnitude is not None:
            start, stop = self.rows[name]
            gain = magnitude / row_lengths(self.base_weight()[start:stop], A, B, self.config.scaling)
            linear = y_R if self.bias is None else y_R - self.bias[start:stop]
            change = (gain - 1) * linear + gain * change
        return change.to(y_R.dtype)

    def _of(self, name: str) -> tuple[Tensor, Tensor, Tensor | None]:
        A, B, magnitude = (self._parameters.get(f"{name}_{slot}") for slot in ("A", "B", "m"))
        return cast(Tensor, A), cast(Tensor, B), magnitude

    @property
    def weight(self) -> Tensor:
        """The matrix that base and adapter amount to, (V, C), without gradient."""
        return self.base_weight() if self.unmerged is not None else self.adapted(self.base_weight())

    @torch.no_grad()
    def adapted(self, weight: Tensor) -> Tensor:
        """``weight`` (V, C) changed by the adapter in use: computed in fp32, returned in its dtype; never in place."""
        if self.config is None:
            return weight
        result, scaling = weight.clone(), self.config.scaling
        for name, (start, stop) in self.rows.items():
            if f"{name}_A" in self._parameters:
                A, B, magnitude = self._of(name)
                rows = weight[start:stop]
                changed = sum_of(rows, A, B, scaling)
                if magnitude is not None:
                    changed *= (magnitude / row_lengths(rows, A, B, scaling))[:, None]
                result[start:stop] = changed
        return result


def sum_of(weight: Tensor, A: Tensor, B: Tensor, scaling: float) -> Tensor:
    """W + s B A in fp32 at least, whatever autocast says."""
    with torch.autocast(weight.device.type, enabled=False):
        return weight.to(torch.promote_types(weight.dtype, A.dtype)) + scaling * (B @ A)


@torch.no_grad()
def row_lengths(weight: Tensor, A: Tensor, B: Tensor, scaling: float) -> Tensor:
    """The 2-norms of the rows of W + s B A, (R,): a constant to the gradient, as DoRA has it (Liu et al., sec. 4.3)."""
    lengths: Tensor = torch.linalg.vector_norm(sum_of(weight, A, B, scaling), dim=1)
    return lengths
