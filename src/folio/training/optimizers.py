"""Which parameter is trained how: named groups in which every parameter appears once, and the optimizers over them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from folio.model.layers import MLP, Attention
from folio.training.adamw import FUSED_DEVICES, AdamW
from folio.training.config import OptimizerConfig
from folio.training.muon import Muon
from folio.training.parallel import Alone, placed_like


def spare_the_compiler() -> None:
    """Keep ``torch.optim`` from importing torch.compile's machinery, which takes over a second, only to disable it.

    Its methods are wrapped to be invisible to the compiler, and the wrapper loads the compiler on first use. Nothing of
    an optimizer is compiled here, so each wrapper is told that its function is settled as it is.
    """
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        plain = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if plain is not None:
            plain.__dynamo_disable = plain


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> dict[str, list[tuple[str, nn.Parameter]]]:
    """Trainable parameters by group: "matrices" (hidden), "embeddings" (and the head), "vectors" (gains and biases)."""
    groups: dict[str, list[tuple[str, nn.Parameter]]] = {"matrices": [], "embeddings": [], "vectors": []}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2:
            groups["vectors"].append((name, parameter))
        elif "blocks." in name:
            groups["matrices"].append((name, parameter))
        else:
            groups["embeddings"].append((name, parameter))
    return groups


class Optimizers:
    """One or two optimizers that step together, their rates moved by one multiplier of their peaks."""

    def __init__(
        self,
        model: nn.Module,
        config: OptimizerConfig,
        *,
        device: torch.device,
        dtype: torch.dtype,
        parallel: Alone | None = None,
    ) -> None:
        spare_the_compiler()
        groups = parameter_groups(model, config)
        self.names = {parameter: name for members in groups.values() for name, parameter in members}
        decay, keep = config.weight_decay, 0.0
        plain = [("embeddings", decay), ("vectors", keep)]
        self.all: list[AdamW | Muon] = []
        if config.kind == "muon":
            muon_groups = _muon_groups(model, groups["matrices"])
            if muon_groups:
                self.all.append(
                    Muon(
                        muon_groups,
                        config.muon_learning_rate,
                        momentum=config.momentum,
                        weight_decay=config.weight_decay,
                        dtype=dtype if dtype != torch.float16 else torch.float32,
                        parallel=parallel,
                    )
                )
        else:
            plain.insert(0, ("matrices", decay))
        adamw_groups = [
            {"params": [p for _, p in groups[name]], "weight_decay": weight_decay, "name": name}
            for name, weight_decay in plain
            if groups[name]
        ]
        if adamw_groups:
            self.all.append(
                AdamW(
                    adamw_groups,
                    config.learning_rate,
                    betas=(config.beta1, config.beta2),
                    eps=config.eps,
                    fused=device.type in FUSED_DEVICES,
                )
            )
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["peak_lr"] = group["lr"]

    def set_rate(self, multiplier: float) -> None:
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * multiplier

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.names)

    def step(self) -> None:
        for optimizer in self.all:
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer in self.all:
            optimizer.zero_grad(set_to_none=True)

    def _slots(self) -> Iterator[tuple[AdamW | Muon, Tensor, str]]:
        for optimizer in self.all:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    yield optimizer, parameter, self.names[parameter]

    def state_tensors(self) -> dict[str, Tensor]:
        """Every tensor of optimizer state, by "parameter name/slot": the state itself, zeros before the first step.

        What is written into them is put back. Where a parameter is spread over ranks, so are they (DTensor).
        """
        return {
            f"{name}/{slot}": placed_like(value, parameter)
            for optimizer, parameter, name in self._slots()
            for slot, value in optimizer.state_of(parameter).items()
        }


def _muon_groups(model: nn.Module, matrices: list[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
    """Groups by how a parameter's rows are split into matrices of their own."""
    by_split: dict[tuple[int, ...], list[nn.Parameter]] = {}
    for name, parameter in matrices:
        owner, _, weight = name.removesuffix(".weight").rpartition(".")
        part = model.get_submodule(owner)
        split = part.stacked.get(weight, ()) if isinstance(part, Attention | MLP) else ()
        by_split.setdefault(split, []).append(parameter)
    return [{"params": params, "split": list(split) or None, "name": "matrices"} for split, params in by_split.items()]
