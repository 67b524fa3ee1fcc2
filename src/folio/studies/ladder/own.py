"""Folio's own model, optimizers and steps, set as a rung wants them."""

from __future__ import annotations

import torch

from folio.model.build import allocate
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.ranks import ALONE, Ranks
from folio.runtime import Precision, Runtime
from folio.shards.batches import Batches
from folio.studies.ladder.fp8 import use_fp8
from folio.studies.ladder.plain import DECAY_OF_MATRICES, first_weights
from folio.studies.ladder.rungs import Settings
from folio.training.config import OptimizerConfig, ScheduleConfig, SpikeConfig, TrainConfig
from folio.training.plan import BatchPlan
from folio.training.state import TrainingState

MUON_RATE = 0.01
WARMUP, DECAY = 0.05, 0.4
"""Shares of all steps: the rate's rise, and its fall at the end."""


def train_config(settings: Settings, steps: int, learning_rate: float) -> TrainConfig:
    """How ``steps`` are trained under ``settings``. Only what is no number leaves a step out."""
    wsd = settings.schedule == "wsd"
    return TrainConfig(
        steps=steps,
        optimizer=OptimizerConfig(
            kind="muon" if settings.optimizer == "muon" else "adamw",
            learning_rate=learning_rate,
            muon_learning_rate=MUON_RATE,
            beta2=settings.beta2,
            weight_decay=DECAY_OF_MATRICES,
        ),
        schedule=ScheduleConfig(
            kind=settings.schedule,
            warmup_steps=round(WARMUP * steps) if wsd else 0,
            decay_fraction=DECAY,
            floor=0.0,
        ),
        clip_norm=settings.clip,
        spikes=SpikeConfig(z_score=0.0),
        compile="on" if settings.compile else "off",
    )


def precision_of(settings: Settings) -> Precision:
    """bf16, or what the fp32 products are; it says nothing of how a CPU makes them."""
    return "bf16" if settings.bf16 else "tf32" if settings.products == "tf32" else "fp32"


class OwnTraining:
    """Steps of :class:`TrainingState`, each batch cut into ``accumulation`` micro-batches on each rank."""

    def __init__(
        self,
        config: GPTConfig,
        settings: Settings,
        source: Batches,
        learning_rate: float,
        seed: int,
        *,
        steps: int,
        accumulation: int = 1,
        ranks: Ranks = ALONE,
    ) -> None:
        assert settings.own_stack
        device = torch.device(settings.device)
        if ranks.world_size > 1 and device.type == "cuda":
            device = torch.device("cuda", ranks.launch.local_rank)
        model = first_weights(config, seed)
        if settings.fp8:
            use_fp8(model.blocks)
        runtime = Runtime(device, precision_of(settings), seed, ranks)
        self.state = TrainingState(model, train_config(settings, steps, learning_rate), runtime)
        self.state.seed_randomness()
        self.state.compile()
        self.source = source
        micro_batch = source.sequences // (accumulation * ranks.world_size)
        self.plan = BatchPlan(source.block_size, micro_batch, accumulation, ranks.world_size)
        assert self.plan.sequences == source.sequences

    @property
    def tokens(self) -> int:
        """Of a step, on all ranks."""
        return self.plan.tokens

    def step(self) -> float:
        """Take a step; returns its loss in nats per token."""
        result = self.state.train_step(self.source, self.plan)
        assert result is not None
        return result.loss

    def trained(self) -> GPT:
        """A copy of the model as it is now, with products in full precision."""
        model = allocate(self.state.model.config, device=next(self.state.model.parameters()).device)
        model.load_state_dict(self.state.model.state_dict(), strict=True)
        return model
