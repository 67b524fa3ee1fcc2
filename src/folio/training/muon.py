"""Muon: momentum, orthogonalized, for the hidden matrices (Jordan et al. 2024).

N matrices of one shape, R rows, C columns
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# Quintic Newton-Schulz coefficients of Jordan et al. 2024: singular values end near 1 within 5 steps.
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonalize(matrices_NRC: Tensor, steps: int = 5, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Replace the singular values of each matrix with values near 1, by Newton-Schulz iteration in ``dtype``."""
    x = matrices_NRC.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, each matrix orthogonalized, step scaled by 0.2 sqrt(max(R, C)), decay decoupled.

    The scale (Liu et al. 2025) gives a step the root mean square of 0.2 x rate per weight, near AdamW's. Matrices of
    one shape are orthogonalized together. A parameter of a group with ``split`` rows is taken as several matrices
    stacked (q, k and v of an attention, gate and value of a gated MLP), since each is a map of its own.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "split": None})
        self.dtype = dtype
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise ValueError(f"Muon takes matrices; got a parameter of shape {tuple(parameter.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            gradients = [p.grad for p in parameters]
            buffers = []
            for parameter in parameters:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                buffers.append(state["momentum"])
            torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
            updates = torch._foreach_lerp(gradients, buffers, group["momentum"])
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            self._apply(parameters, list(updates), group)

    def _apply(self, parameters: list[Tensor], updates: list[Tensor], group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for parameter, update in zip(parameters, updates, strict=True):
            split = group["split"] or [parameter.shape[0]]
            for target, part in zip(torch.split(parameter, split), torch.split(update, split), strict=True):
                by_shape.setdefault(part.shape, []).append((target, part))
        for shape, pairs in by_shape.items():
            directions = orthogonalize(torch.stack([part for _, part in pairs]), dtype=self.dtype)
            scale = -group["lr"] * 0.2 * max(shape) ** 0.5
            targets = [target for target, _ in pairs]
            torch._foreach_add_(targets, list(directions.to(targets[0].dtype).unbind()), alpha=scale)
