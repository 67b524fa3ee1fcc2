"""The loss of packed examples: what is learned of each, from what stands before it in the same example.

R rows, T places of a row, N real tokens and what fills them up
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from folio.finetuning.batches import PADDING, PackedRows
from folio.model.branches import Branches
from folio.model.config import GPTConfig
from folio.model.loss import IGNORE

STRIDE = 256
"""A sequence is filled up to a multiple of so many tokens: oneDNN keeps a kernel with its memory for each size it has
met, which would be another one at every step."""


@dataclass(frozen=True)
class PackedTokens:
    """An :class:`folio.training.objective.Objective` over :class:`PackedRows`.

    An example sees itself alone, and its positions begin at 0: the real tokens go through the model as one sequence,
    hardly padded, and attention keeps to each example (:class:`Branches`). With ``across`` a row is read as it lies:
    attention runs through all that stands before, and positions run on.
    """

    shape: GPTConfig
    across: bool = False
    unit: str = "token"

    @property
    def ragged(self) -> bool:
        return not self.across

    def count(self, batch: PackedRows) -> int:
        return batch.learned_tokens

    def nats(self, forward: Callable[..., Any], batch: PackedRows, device: torch.device) -> Tensor:
        ids, targets, context = self.inputs(batch, device)
        nats, _ = forward(ids, targets, cache=context)
        return nats  # type: ignore[no-any-return]

    def inputs(self, batch: PackedRows, device: torch.device) -> tuple[Tensor, Tensor, Branches | None]:
        """Ids and targets, (1, N), with what keeps examples apart; or both (R, T) as they lie, and None."""
        ids_RT, targets_RT = torch.from_numpy(batch.ids), torch.from_numpy(batch.targets)
        if self.across:
            return ids_RT.to(device, non_blocking=True), targets_RT.to(device, non_blocking=True), None
        filled = torch.tensor([sum(row) for row in batch.lengths])
        real_RT = torch.arange(ids_RT.shape[1]) < filled[:, None]
        lengths = [length for row in batch.lengths for length in row]
        spare = -sum(lengths) % STRIDE
        longest = max(lengths)
        rest = [longest] * (spare // longest) + [spare % longest] * (spare % longest > 0)
        apart = Branches(self.shape, [*lengths, *rest], [()] * (len(lengths) + len(rest)), device=device)
        ids_1N, targets_1N = (
            F.pad(rows[real_RT], (0, spare), value=value)[None].to(device, non_blocking=True)
            for rows, value in ((ids_RT, PADDING), (targets_RT, IGNORE))
        )
        return ids_1N, targets_1N, apart
