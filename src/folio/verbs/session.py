"""One training run put together: a recipe and prepared data in, a model ready to train and a run folder out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from folio.artifacts import Parent, environment, new_folder, write_file
from folio.checksums import read_sealed_json, sealed_json
from folio.errors import ArtifactError, ConfigError, DataError
from folio.evaluation.config import EvaluationConfig
from folio.model.accounting import parameter_counts, training_flops
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.ranks import ALONE, Ranks
from folio.runtime import Runtime, make_runtime
from folio.shards import Batches
from folio.training.available_memory import available_memory
from folio.training.config import TrainConfig
from folio.training.loop import Pace
from folio.training.micro_batch import fits_whole, largest_micro_batch
from folio.training.plan import BatchPlan, sequences_per_rank, solve_batch, usual_micro_batch
from folio.training.sinks import require_sinks
from folio.training.state import TrainingState
from folio.verbs.prepare import Prepared
from folio.verbs.probes import Measure, measures_of
from folio.verbs.recipe import Recipe, model_for_vocabulary

FIXED = ("batch_tokens", "seed", "init", "best_by")
"""Keys of [train] that a run keeps for life: on them depend the position in the data, the first weights, and which
checkpoint is best."""


@dataclass
class Session:
    """A model ready to train on prepared data."""

    recipe: Recipe
    prepared: Prepared
    runtime: Runtime
    plan: BatchPlan
    source: Batches
    state: TrainingState
    pace: Pace
    compiled: str
    peak_origin: str
    measures: list[Measure] = field(default_factory=list)
    """What is measured while training besides the validation loss."""
    fits: str = ""
    """What was found about the largest micro-batch, if it was looked for."""

    @property
    def config(self) -> TrainConfig:
        return self.recipe.train

    def resolved(self) -> dict[str, Any]:
        """What was worked out from the recipe, for ``config.json`` and the reader."""
        counts = parameter_counts(self.state.model.config)
        return {
            "parameters": counts.total,
            "vocab_size": self.state.model.config.vocab_size,
            "device": str(self.runtime.device),
            "precision": self.runtime.precision,
            "precision_reason": self.runtime.reason,
            "threads": torch.get_num_threads(),
            "compile": self.compiled,
            "world_size": self.runtime.world_size,
            "parallel": self.state.parallel.kind,
            "micro_batch": self.plan.micro_batch,
            "accumulation": self.plan.accumulation,
            "sequences": self.plan.sequences,
            "block_size": self.plan.block_size,
            "train_tokens": len(self.source.stream),
            "validation_tokens": self.prepared.shards.tokens("val"),
            "epochs": self.config.steps * self.plan.tokens / len(self.source.stream),
            "flops_per_token": self.pace.flops_per_token,
            "peak_flops_per_s": self.pace.peak_flops_per_s,
            "peak_origin": self.peak_origin,
        }


def open_session(
    recipe: Recipe, prepared: Prepared, ranks: Ranks = ALONE, *, begun: Mapping[str, Any] | None = None
) -> Session:
    """Build runtime, model, optimizer and data order. What cannot be fails here, before anything is written.

    ``begun`` is what was resolved when the run began: what "auto" found then is kept, where it still applies, since
    another choice would be within rounding, but not the same bits.
    """
    config = recipe.train
    runtime = make_runtime(config.device, config.precision, seed=config.seed, ranks=ranks)
    shape = model_for_vocabulary(recipe.model, prepared.tokenizer.vocab_size)
    recipe = recipe.model_copy(update={"model": shape})
    sequences = sequences_per_rank(config.batch_tokens, shape.block_size, ranks.world_size)
    source = Batches(prepared.shards.split("train"), shape.block_size, sequences * ranks.world_size, config.seed)
    _refuse_small_validation(prepared, shape.block_size)
    require_sinks(config.track)
    if config.sample_every:
        prepared.tokenizer.encode(config.sample_prompt)
    measures = ranks.first_on_each_machine(lambda: measures_of(recipe, prepared.tokenizer, runtime))
    if runtime.device.type == "cuda":
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for; read when it starts
        torch.use_deterministic_algorithms(config.deterministic, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    model = GPT(shape).initialize(config.seed, config.init)
    begun = begun or {}
    fits, micro_batch = "", begun.get("micro_batch") if config.micro_batch == "auto" else config.micro_batch
    same_ranks = begun.get("world_size") == ranks.world_size
    way = (
        begun["parallel"]
        if same_ranks and config.parallel == "auto"
        else _way(config, shape, micro_batch, sequences, runtime)
    )
    if config.micro_batch == "auto" and (micro_batch is None or sequences % micro_batch):
        micro_batch, fits = _most_that_fit(model, config, runtime, sequences, way)
    plan = solve_batch(
        config.batch_tokens, shape.block_size, micro_batch, world_size=ranks.world_size, device=runtime.device.type
    )
    state = TrainingState(model, config, runtime, way)
    state.seed_randomness()
    compiled = state.compile()
    peak, origin = runtime.matmul_peak()
    pace = Pace(training_flops(shape), peak)
    return Session(recipe, prepared, runtime, plan, source, state, pace, compiled, origin, measures, fits)


def _most_that_fit(model: GPT, config: TrainConfig, runtime: Runtime, sequences: int, way: str) -> tuple[int, str]:
    """The largest micro-batch that fits on every rank, and in words how that was found."""
    ranks = runtime.ranks
    if way != "fsdp":
        model.to(runtime.device)
    found = ranks.attempt(
        lambda: largest_micro_batch(
            model, runtime, config, sequences, available=_own_memory(runtime), trial=way != "fsdp"
        )
    )
    return min(ranks.gather((found.micro_batch, found.how)))


def _own_memory(runtime: Runtime) -> int:
    """Bytes that this rank may still take: its GPU's, or its share of what the machine has."""
    each = available_memory(runtime.device)
    return each // runtime.ranks.launch.local_world_size if runtime.device.type == "cpu" else each


def _way(
    config: TrainConfig, shape: GPTConfig, micro_batch: int | None, sequences: int, runtime: Runtime
) -> Literal["alone", "ddp", "fsdp"]:
    """How several ranks share the model: as asked, or whole on each if it fits there by estimate."""
    if runtime.world_size == 1:
        return "alone"
    if config.parallel != "auto":
        return config.parallel
    if micro_batch is None and config.micro_batch is None:
        micro_batch = usual_micro_batch(sequences, shape.block_size, runtime.device.type)
    fits = fits_whole(shape, runtime, config, micro_batch or 1, sequences, _own_memory(runtime))
    return "fsdp" if not all(runtime.ranks.gather(fits)) and runtime.precision != "fp16" else "ddp"


def _refuse_small_validation(prepared: Prepared, block_size: int) -> None:
    tokens = prepared.shards.tokens("val")
    if tokens < block_size + 1:
        raise DataError(
            f"the validation split holds {tokens:,} tokens; "
            f"one window of block_size {block_size} needs {block_size + 1}",
            "Give more text, a larger --corpus.validation-fraction, or a smaller --model.block-size.",
        )


def create_run(run: Path, session: Session, preset: str) -> None:
    """A new run folder with the resolved configuration; an occupied one is refused."""
    with new_folder(run) as folder:
        write_file(folder / "config.json", sealed_json(_description(session, preset)))


def resolved_of(run: Path) -> dict[str, Any]:
    """What was worked out from the recipe when ``run`` was last begun."""
    resolved: dict[str, Any] = read_sealed_json(run / "config.json")["resolved"]
    return resolved


def refuse_another_recipe(run: Path, session: Session) -> None:
    """Check that ``run`` was begun with the same data and the same model.

    :class:`ConfigError` for a change after which the position in the data or the weights would mean something else,
    :class:`ArtifactError` for other shards or another tokenizer than the run began with.
    """
    saved = read_sealed_json(run / "config.json")
    now = _description(session, saved["preset"])
    begun, asked = saved["recipe"], now["recipe"]
    changed = [f"model.{key}" for key in asked["model"] if asked["model"][key] != begun["model"].get(key)]
    changed += [f"train.{key}" for key in FIXED if asked["train"][key] != begun["train"].get(key, _usual(key))]
    if asked["train"]["best_by"] != "loss":  # what it means must stay the same
        before = {**EvaluationConfig().model_dump(mode="json"), **begun.get("evaluation", {})}
        changed += [f"evaluation.{key}" for key in before if key != "every" and before[key] != asked["evaluation"][key]]
    if changed:
        raise ConfigError(
            f"'{run}' was begun with another {' and '.join(changed)}", "Leave the flag out, or start a new run."
        )
    for name, what in (("tokenizer", "tokenizer"), ("parents", "shards")):
        if saved[name] != now[name]:
            raise ArtifactError(
                f"'{run}' was begun with other {what} than its recipe gives now",
                "Restore the text it was made from, or start a new run.",
            )


def _usual(key: str) -> Any:
    """What a key of [train] was before it was one."""
    return TrainConfig.model_fields[key].default


def continue_run(run: Path, session: Session) -> None:
    """Write what flags changed (more steps, other probes) into the ``config.json`` of ``run``."""
    saved = read_sealed_json(run / "config.json")
    write_file(run / "config.json", sealed_json(_description(session, saved["preset"])))


def _description(session: Session, preset: str) -> dict[str, Any]:
    shards = session.prepared.shards
    return {
        "preset": preset,
        "recipe": session.recipe.model_dump(mode="json"),
        "resolved": session.resolved(),
        "parents": [Parent(kind="shards", id=shards.manifest.id).model_dump()],
        "tokenizer": session.prepared.tokenizer.fingerprint,
        "job": session.runtime.ranks.launch.job,
        "environment": {**environment(), "device": session.runtime.describe()},
    }
