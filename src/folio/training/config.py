"""What a training run is asked to do."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from folio.config import Table


class OptimizerConfig(Table):
    """How gradients become steps."""

    kind: Literal["adamw", "muon"] = "adamw"
    """AdamW for everything, or Muon for the hidden matrices and AdamW for the rest."""
    learning_rate: float = Field(default=6e-4, gt=0)
    """Peak rate of AdamW."""
    muon_learning_rate: float = Field(default=0.02, gt=0)
    """Peak rate of Muon (a step's root mean square per weight is 0.2 of it, times the root of the longer side)."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW: decay of the mean gradient."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """AdamW: decay of the mean squared gradient."""
    eps: float = Field(default=1e-8, gt=0)
    """AdamW: added to the root of the mean squared gradient."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Muon: Nesterov momentum."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled decay of matrices and embeddings; gains and biases never decay."""


class ScheduleConfig(Table):
    """How the learning rate moves over a run."""

    kind: Literal["constant", "cosine", "wsd"] = "cosine"
    """After warm-up: constant; a half cosine down to the floor; or stable, then linear decay to the floor (WSD)."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear rise from zero."""
    floor: float = Field(default=0.1, ge=0, le=1)
    """Where the decay ends, as a fraction of the peak."""
    decay_fraction: float = Field(default=0.2, gt=0, le=1)
    """wsd: the share of all steps that the final decay takes."""


class SpikeConfig(Table):
    """Steps that would do harm are left out: their gradient is thrown away, and the weights stay as they are."""

    z_score: float = Field(default=6.0, ge=0)
    """Leave a step out when its loss or its gradient's norm lies so many standard deviations above the window's mean.
    0 leaves out only what is not a number."""
    window: int = Field(default=128, ge=8)
    """Steps that mean and deviation are taken over; those left out count as if they lay at the limit. Nothing is judged
    before a quarter of it."""
    stop_after: int = Field(default=20, ge=1)
    """End the run when so many of the last `window` steps were left out."""


class LoopConfig(Table):
    """What the training loop goes by, whatever it trains."""

    steps: int = Field(default=1000, ge=1)
    """Optimizer steps."""
    batch_tokens: int = Field(default=16384, ge=1)
    """Tokens in one optimizer step, over all micro-batches and ranks. Never changed silently."""
    micro_batch: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    """Sequences in one forward pass; must divide the sequences of a step. auto: the most that fit in memory, found by a
    trial. Empty: as many as keep the device busy."""
    seed: int = Field(default=1337, ge=0)
    """First weights, order of the data, dropout."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """The optimizer."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The learning-rate schedule."""
    clip_norm: float = Field(default=1.0, ge=0)
    """Gradients are scaled down to this total norm; 0 leaves them as they are."""
    spikes: SpikeConfig = SpikeConfig()
    """Which steps are left out."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Keep an exponential moving average of the weights, validate and save that; 0 keeps none."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """Dtype of matrix products; weights and optimizer stay in fp32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile; auto means on for CUDA, off elsewhere."""
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """On several ranks: ddp keeps the whole model on each, fsdp a part of it. auto: ddp where the model fits."""
    rank_timeout_s: float = Field(default=600.0, gt=0)
    """On several ranks: seconds to wait for one that is alive but does not answer, before the job ends."""
    recompute: bool = False
    """Activation checkpointing: keep only each block's input and compute the rest again in backward."""
    deterministic: bool = True
    """Use deterministic kernels where there is a choice (CUDA attention), so that equal runs give equal bits."""
    validate_every: int = Field(default=250, ge=0)
    """Steps between validation losses; one is always measured at the end. 0: at the end only."""
    validation_tokens: int = Field(default=0, ge=0)
    """Measure validation on the first this many tokens, in whole blocks; 0 means all of them."""
    sample_every: int = Field(default=0, ge=0)
    """Steps between samples of text; 0 writes none."""
    sample_prompt: str = ""
    """What samples begin with; empty starts from end-of-text."""
    checkpoint_every: int = Field(default=0, ge=0)
    """Steps between checkpoints; one is always saved at the end. 0: at the end only."""
    checkpoint_async: bool = False
    """Write checkpoints beside training instead of waiting for the disk; holds a second copy of the state in memory."""
    save_best: bool = True
    """Save a checkpoint whenever it is the best so far."""
    best_by: str = "loss"
    """What makes a checkpoint the best: the validation loss, or a score that [evaluation] measures while training, such
    as hellaswag.completion.acc_norm."""
    patience: int = Field(default=0, ge=0)
    """End the run when so many validations in a row brought no better checkpoint; 0 trains to the last step."""
    keep_last: int = Field(default=1, ge=1)
    """How many of the newest checkpoints to keep; the best is always kept besides."""
    keep_every: int = Field(default=0, ge=0)
    """Checkpoints at multiples of this many steps are kept for good; 0 keeps none so."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where else to send the metrics."""


class TrainConfig(LoopConfig):
    """One training run."""

    init: Literal["gpt2", "zero-residual"] = "gpt2"
    """First weights: as GPT-2's, or with the projections into the residual stream at zero."""
