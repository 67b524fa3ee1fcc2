"""AdamW (Loshchilov and Hutter 2019) as one kernel over all parameters of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from folio.training.parallel import local

FUSED_DEVICES = ("cpu", "cuda")


class AdamW(torch.optim.Optimizer):
    """The same numbers as ``torch.optim.AdamW(fused=True)``, bit for bit, by the same kernel.

    It differs in what it leaves out: torch's own class loads all of torch.compile at its first step, over a second on a
    small machine. Where torch has no fused kernel the formula is applied to lists of tensors.
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], lr: float, *, betas: tuple[float, float], eps: float, fused: bool
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self.fused = fused

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                states = [self.state_of(parameter) for parameter in parameters]
                gradients = [local(p.grad) for p in parameters]
                means, squares, steps = ([s[slot] for s in states] for slot in ("exp_avg", "exp_avg_sq", "step"))
                torch._foreach_add_(steps, 1.0)
                update = _fused_update if self.fused else _list_update
                update([local(p) for p in parameters], gradients, means, squares, steps, group)

    def state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        """Step count, mean and mean square of a parameter (of this rank's part of it), zero at first."""
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            part = local(parameter.detach())
            device = parameter.device if self.fused else "cpu"
            state["step"] = torch.zeros((), dtype=torch.float32, device=device)
            state["exp_avg"] = torch.zeros_like(part, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(part, memory_format=torch.preserve_format)
        return state


def _fused_update(
    parameters: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    steps: list[Tensor],
    group: dict[str, Any],
) -> None:
    beta1, beta2 = group["betas"]
    torch._fused_adamw_(
        parameters,
        gradients,
        means,
        squares,
        [],
        steps,
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )


def _list_update(
    parameters: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    steps: list[Tensor],
    group: dict[str, Any],
) -> None:
    (beta1, beta2), rate = group["betas"], group["lr"]
    torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
    torch._foreach_lerp_(means, gradients, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
    counts = [float(step) for step in steps]
    roots = torch._foreach_sqrt(squares)
    torch._foreach_div_(roots, [(1 - beta2**count) ** 0.5 for count in counts])
    torch._foreach_add_(roots, group["eps"])
    torch._foreach_addcdiv_(parameters, means, roots, [-rate / (1 - beta1**count) for count in counts])
