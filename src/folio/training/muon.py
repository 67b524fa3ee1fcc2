"""Muon: momentum, orthogonalized, for the hidden matrices (Jordan et al. 2024).

N matrices of one shape, R rows, C columns
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from folio.training.parallel import Alone, local

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
    stacked (q, k and v of an attention, gate and value of a gated MLP), since each is a map of its own. With several
    ranks (``parallel``) each orthogonalizes some of the matrices.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.bfloat16,
        parallel: Alone | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "split": None})
        self.dtype = dtype
        self.parallel = parallel
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
            gradients = [local(p.grad) for p in parameters]
            buffers = [self.state_of(parameter)["momentum"] for parameter in parameters]
            torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
            updates = list(torch._foreach_lerp(gradients, buffers, group["momentum"]))
            torch._foreach_mul_([local(p) for p in parameters], 1 - group["lr"] * group["weight_decay"])
            if self.parallel is None or self.parallel.ranks.world_size == 1:
                self._add_directions(parameters, updates, group)
            else:
                self._add_shared_directions(parameters, updates, group)

    def state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        """The momentum of a parameter (of this rank's part of it), zero at first."""
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(local(parameter.detach()))
        return state

    def _add_directions(self, targets: list[Tensor], updates: list[Tensor], group: dict[str, Any]) -> None:
        """Orthogonalize whole ``updates`` and add them, scaled, to the whole ``targets``."""
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for target, update in zip(targets, updates, strict=True):
            split = group["split"] or [target.shape[0]]
            for part, change in zip(torch.split(target, split), torch.split(update, split), strict=True):
                by_shape.setdefault(change.shape, []).append((part, change))
        for shape, pairs in by_shape.items():
            directions = orthogonalize(torch.stack([change for _, change in pairs]), dtype=self.dtype)
            scale = -group["lr"] * 0.2 * max(shape) ** 0.5
            parts = [part for part, _ in pairs]
            torch._foreach_add_(parts, list(directions.to(parts[0].dtype).unbind()), alpha=scale)

    def _add_shared_directions(self, parameters: list[Tensor], updates: list[Tensor], group: dict[str, Any]) -> None:
        """The same where every rank does its share: matrices of one shape are handed round together."""
        assert self.parallel is not None

        def work(whole: list[Tensor]) -> list[Tensor]:
            steps = [torch.zeros_like(update) for update in whole]
            self._add_directions(steps, whole, group)
            return steps

        by_shape: dict[torch.Size, list[int]] = {}
        for index, parameter in enumerate(parameters):
            by_shape.setdefault(parameter.shape, []).append(index)
        for indices in by_shape.values():
            members = [parameters[i] for i in indices]
            steps = self.parallel.directions([updates[i] for i in indices], members, work)
            torch._foreach_add_([local(p) for p in members], steps)
