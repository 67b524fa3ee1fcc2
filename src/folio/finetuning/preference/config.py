"""What preference tuning minimizes."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from folio.config import Table

PreferenceLoss = Literal["sigmoid", "ipo"]


class DpoConfig(Table):
    """What preference tuning minimizes."""

    loss: PreferenceLoss = "sigmoid"
    """sigmoid: direct preference optimization (Rafailov et al. 2023). ipo: a squared distance to a fixed margin per
    token, which does not grow without end where all pairs agree (Azar et al. 2023)."""
    beta: float = Field(default=0.1, gt=0)
    """How strongly the model is held to the one it began as: the greater, the closer it stays."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """The share of pairs taken to be labelled the wrong way round (conservative DPO, Mitchell 2023); sigmoid alone."""

    @model_validator(mode="after")
    def _smoothing_belongs_to_sigmoid(self) -> Self:
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError(f"label_smoothing belongs to loss 'sigmoid', not '{self.loss}'; leave it out")
        return self
