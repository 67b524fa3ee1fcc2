"""One training run put together: a recipe and prepared data in, a model ready to train and a run folder out."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from folio.artifacts import Parent, environment, new_folder, write_file
from folio.errors import ArtifactError, ConfigError, DataError
from folio.model.accounting import parameter_counts, training_flops
from folio.model.gpt import GPT
from folio.runtime import Runtime, make_runtime, matmul_peak
from folio.shards import Batches
from folio.training.config import TrainConfig
from folio.training.loop import Pace
from folio.training.plan import BatchPlan, solve_batch
from folio.training.sinks import require_sinks
from folio.training.state import TrainingState
from folio.verbs.prepare import Prepared
from folio.verbs.recipe import Recipe, model_for_vocabulary

FIXED = ("batch_tokens", "seed", "init")
"""Keys of [train] that a run keeps for life: the position in the data and the first weights depend on them."""


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


def open_session(recipe: Recipe, prepared: Prepared) -> Session:
    """Build runtime, model, optimizer and data order. What cannot be fails here, before anything is written."""
    config = recipe.train
    runtime = make_runtime(config.device, config.precision, seed=config.seed)
    shape = model_for_vocabulary(recipe.model, prepared.tokenizer.vocab_size)
    recipe = recipe.model_copy(update={"model": shape})
    plan = solve_batch(config.batch_tokens, shape.block_size, config.micro_batch, device=runtime.device.type)
    source = Batches(prepared.shards.split("train"), shape.block_size, plan.sequences, config.seed)
    _refuse_small_validation(prepared, shape.block_size)
    require_sinks(config.track)
    if config.sample_every:
        prepared.tokenizer.encode(config.sample_prompt)
    torch.manual_seed(config.seed)
    if runtime.device.type == "cuda":
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for; read when it starts
        torch.use_deterministic_algorithms(config.deterministic, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    model = GPT(shape).initialize(config.seed, config.init)
    state = TrainingState(model, config, runtime)
    compiled = state.compile()
    peak, origin = matmul_peak(runtime)
    return Session(recipe, prepared, runtime, plan, source, state, Pace(training_flops(shape), peak), compiled, origin)


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
        write_file(folder / "config.json", _as_json(_description(session, preset)))


def refuse_another_recipe(run: Path, session: Session) -> None:
    """Check that ``run`` was begun with the same data and the same model.

    :class:`ConfigError` for a change after which the position in the data or the weights would mean something else,
    :class:`ArtifactError` for other shards or another tokenizer than the run began with.
    """
    saved = json.loads((run / "config.json").read_bytes())
    now = _description(session, saved["preset"])
    begun, asked = saved["recipe"], now["recipe"]
    changed = [f"model.{key}" for key in asked["model"] if asked["model"][key] != begun["model"].get(key)]
    changed += [f"train.{key}" for key in FIXED if asked["train"][key] != begun["train"].get(key)]
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


def continue_run(run: Path, session: Session) -> None:
    """Write what flags changed (more steps, other probes) into the ``config.json`` of ``run``."""
    saved = json.loads((run / "config.json").read_bytes())
    write_file(run / "config.json", _as_json(_description(session, saved["preset"])))


def _as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _description(session: Session, preset: str) -> dict[str, Any]:
    shards = session.prepared.shards
    return {
        "preset": preset,
        "recipe": session.recipe.model_dump(mode="json"),
        "resolved": session.resolved(),
        "parents": [Parent(kind="shards", id=shards.manifest.id).model_dump()],
        "tokenizer": session.prepared.tokenizer.fingerprint,
        "environment": {**environment(), "device": session.runtime.describe()},
    }
