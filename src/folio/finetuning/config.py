"""How a model is fine-tuned: the training loop's own keys, with the defaults and the few more that it needs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from folio.finetuning.config_lora import Method
from folio.training.config import LoopConfig, OptimizerConfig

USUAL_RATES: dict[Method, float] = {"full": 5e-5, "lora": 2e-4, "qlora": 2e-4, "head": 1e-3}
"""Peak rates of AdamW that are common for models made by others; a search finds better ones for yours."""
USUAL_ROWS = 8
"""Rows in a step, where there are examples enough."""
STEPS_AN_EPOCH = 10
"""At least about so many, where steps can be short enough."""


def usual_rows(rows_per_epoch: int) -> int:
    """Rows in a step where nobody says: few enough that an epoch of few rows is several steps all the same."""
    return min(USUAL_ROWS, max(1, rows_per_epoch // STEPS_AN_EPOCH))


class FinetuneOptimizer(OptimizerConfig):
    """How gradients become steps."""

    learning_rate: float = Field(default=USUAL_RATES["lora"], gt=0)
    """Peak rate of AdamW. Unless it is given or searched for: 5e-5 for full, 2e-4 for lora and qlora, 1e-3 for head."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled decay of matrices and embeddings; gains and biases never decay."""


class FinetuneTrain(LoopConfig):
    """One fine-tuning run."""

    epochs: float = Field(default=3.0, gt=0)
    """How many times each example is shown, where steps does not say."""
    steps: int = Field(default=0, ge=0)
    """Optimizer steps. 0: as many as the epochs take."""
    batch_tokens: int = Field(default=0, ge=0)
    """Places in one optimizer step, padding among them: rows times their length, over all micro-batches and ranks. Of
    preferences a pair is a row. 0: eight rows, or a tenth of an epoch's where that is less, but at least one."""
    micro_batch: Annotated[int, Field(ge=1)] | None = None
    """Rows in one forward pass; must divide the rows of a step. Empty: as many as keep the device busy."""
    optimizer: FinetuneOptimizer = FinetuneOptimizer()
    """The optimizer."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in the model's own layers; lora.dropout is that of the adapters."""
    seed: int = Field(default=1337, ge=0)
    """Order of the examples, dropout."""
    validate_every: int = Field(default=0, ge=0)
    """Steps between validation losses; one is always measured before the first step and at the end. 0: after every
    epoch."""
    validation_tokens: int = Field(default=0, ge=0)
    """Measure validation on the first this many tokens of examples, in whole examples; 0 means all of them."""
    sample_every: int = Field(default=0, ge=0)
    """Steps between samples of text on the way; 0 writes none. Those at the end are [samples]."""
