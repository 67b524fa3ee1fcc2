"""The loss of preference tuning, as training's objective.

N tokens of all answers with their prompts, R pairs; a leading 2 is chosen and rejected
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from folio.finetuning.preference.config import PreferenceLoss
from folio.finetuning.preference.rows import PreferenceRows
from folio.model.branches import Branches
from folio.model.config import GPTConfig


@dataclass(frozen=True)
class Preference:
    """Direct preference optimization (Rafailov et al. 2023, eq. 7), with conservative labels, or as IPO.

    An answer's log-ratio is how much more likely the model finds it than the reference did, in nats; the margin of a
    pair that of its chosen answer less that of its rejected one. ``sigmoid``: -log sigma(beta margin), of which
    ``label_smoothing`` puts a share on the opposite preference (Mitchell 2023). ``ipo``: (margin - 1 / (2 beta))^2
    (Azar et al. 2023, eq. 17) with log-ratios per token of the answer, as its authors computed it.
    """

    shape: GPTConfig
    beta: float = 0.1
    label_smoothing: float = 0.0
    loss: PreferenceLoss = "sigmoid"
    unit: str = "pair"
    ragged: bool = True

    def count(self, batch: PreferenceRows) -> int:
        """Pairs of one micro-batch."""
        return batch.pairs

    def nats(self, forward: Callable[..., Any], batch: PreferenceRows, device: torch.device) -> Tensor:
        """Their summed loss, fp32, with gradients; ``forward`` is that of :class:`folio.model.gpt.GPT`."""
        ids_1N, targets_1N = (torch.from_numpy(array).to(device) for array in (batch.ids, batch.targets))
        alone = Branches(self.shape, batch.lengths, [[]] * len(batch.lengths), device=device)
        nats_1N, _ = forward(ids_1N, targets_1N, cache=alone, each=True)
        wide = torch.float32 if device.type == "mps" else torch.float64  # long sums, of which differences are taken
        answers = nats_1N[0].to(wide).split(batch.lengths)
        log_p_2R = -torch.stack([answer.sum() for answer in answers]).view(2, -1)
        log_ratio_2R = log_p_2R - torch.from_numpy(batch.reference).to(device, wide)
        losses_R = self.losses(log_ratio_2R, torch.from_numpy(batch.answer_tokens).to(device))
        return losses_R.sum().float()

    def losses(self, log_ratio_2R: Tensor, tokens_2R: Tensor) -> Tensor:
        """The loss of each pair, (R,); ``tokens_2R`` counts the tokens of each answer."""
        if self.loss == "ipo":
            chosen_R, rejected_R = (log_ratio_2R / tokens_2R).unbind()
            return (chosen_R - rejected_R - 1 / (2 * self.beta)).square()
        margin_R = self.beta * (log_ratio_2R[0] - log_ratio_2R[1])
        agreed_R, opposed_R = -F.logsigmoid(margin_R), -F.logsigmoid(-margin_R)
        return (1 - self.label_smoothing) * agreed_R + self.label_smoothing * opposed_R

    def rewards(self, log_ratio_2R: Tensor) -> Tensor:
        """The reward that the model has learned to give each answer, (2, R): beta times its log-ratio (eq. 5)."""
        return self.beta * log_ratio_2R
