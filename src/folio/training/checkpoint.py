"""Checkpoints of a run: ``checkpoints/step-00000500/{model/,state/}``, whole or not there at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from folio.artifacts import Manifest, new_folder, read_manifest, verify, write_manifest
from folio.errors import ArtifactError
from folio.model.folder import load_model, save_model
from folio.training.state import TrainingState

KIND = "checkpoint"
STATE_FILE = "state/state.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """One saved moment of a run."""

    path: Path
    step: int
    nats_per_token: float | None = None
    elapsed_s: float = 0.0

    @classmethod
    def of(cls, path: Path, manifest: Manifest) -> Checkpoint:
        facts = manifest.config
        return cls(path, facts["step"], facts.get("nats_per_token"), facts.get("elapsed_s", 0.0))

    @property
    def model(self) -> Path:
        return self.path / "model"


def save_checkpoint(
    run: Path,
    state: TrainingState,
    facts: dict[str, Any],
    *,
    eos_id: int | None = None,
    tokenizer_files: Callable[[Path], None] | None = None,
    card: str | None = None,
) -> Checkpoint:
    """Write the state after ``state.step`` steps; ``facts`` (JSON values: the last validation) go to its manifest."""
    path = run / "checkpoints" / f"step-{state.step:08d}"
    with new_folder(path, replace=KIND) as folder:
        (folder / "model").mkdir()
        (folder / "state").mkdir()
        with state.shipping_weights() as model:
            save_model(model, folder / "model", eos_id=eos_id, tokenizer_files=tokenizer_files, card=card)
        save_file(state.tensors(), folder / STATE_FILE)
        manifest = write_manifest(folder, KIND, {"step": state.step, **facts}, device=str(state.runtime.device))
    return Checkpoint.of(path, manifest)


def load_checkpoint(checkpoint: Checkpoint, state: TrainingState) -> None:
    """Put ``state`` where it was when ``checkpoint`` was saved, bit for bit; every file's sha256 is compared first."""
    verify(checkpoint.path, KIND)
    saved = load_model(checkpoint.model, device="cpu")
    if saved.config.model_copy(update={"dropout": 0.0}) != state.model.config.model_copy(update={"dropout": 0.0}):
        raise ArtifactError(
            f"'{checkpoint.path}' holds a model of another shape than this run's configuration",
            "Resume with the run's own configuration, or start a new run.",
        )
    state.model.load_state_dict(saved.state_dict(), strict=True)
    try:
        state.load_tensors(load_file(checkpoint.path / STATE_FILE), checkpoint.step)
    except KeyError as error:
        raise ArtifactError(
            f"'{checkpoint.path}' was saved by another optimizer or precision: {error} does not match",
            "Resume with the run's own configuration, or start a new run.",
        ) from None


def list_checkpoints(run: Path) -> list[Checkpoint]:
    """Complete checkpoints, oldest first; folders whose manifest cannot be read are left out."""
    found = []
    for path in sorted((run / "checkpoints").glob("step-*")):
        try:
            manifest: Manifest = read_manifest(path, KIND)
        except ArtifactError:
            continue
        found.append(Checkpoint.of(path, manifest))
    return found


def best_checkpoint(checkpoints: list[Checkpoint]) -> Checkpoint | None:
    """The one with the lowest validation loss; the newest if none was validated; None if there are none."""
    scored = [(c.nats_per_token, -c.step, c) for c in checkpoints if c.nats_per_token is not None]
    return min(scored)[2] if scored else (checkpoints[-1] if checkpoints else None)


def newest_sound_checkpoint(run: Path) -> tuple[Checkpoint, list[str]]:
    """The newest checkpoint whose every byte is as written, and one line for each damaged one that was passed over."""
    damaged = []
    for path in sorted((run / "checkpoints").glob("step-*"), reverse=True):
        try:
            manifest = verify(path, KIND)
        except ArtifactError as error:
            damaged.append(error.problem)
            continue
        return Checkpoint.of(path, manifest), damaged
    detail = f" ({'; '.join(damaged)})" if damaged else ""
    raise ArtifactError(f"'{run}' has no checkpoint to go on from{detail}", "Start the run anew in another folder.")


def set_aside_after(run: Path, step: int) -> None:
    """Rename what lies after ``step`` to ``damaged-step-...``: a run that goes on from ``step`` comes by there again.

    Left in place, it would count as the newest, push sound checkpoints out, and stand in the way of saving.
    """
    for path in (run / "checkpoints").glob("step-*"):
        if path.name > f"step-{step:08d}":
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)


def remove_surplus(run: Path, *, keep_last: int, keep_every: int) -> None:
    """Keep the newest ``keep_last``, the best, multiples of ``keep_every``; clear away what a kill left half-made."""
    checkpoints = list_checkpoints(run)
    best = best_checkpoint(checkpoints)
    kept = {c.path for c in checkpoints[-keep_last:]} | ({best.path} if best else set())
    for checkpoint in checkpoints:
        if checkpoint.path not in kept and not (keep_every and checkpoint.step % keep_every == 0):
            half_gone = checkpoint.path.with_name(f".{checkpoint.path.name}")
            checkpoint.path.rename(half_gone)  # a kill amid the removal must not leave what looks like a checkpoint
            shutil.rmtree(half_gone)
    for leftover in (run / "checkpoints").glob(".step-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def weights_sha256(model: torch.nn.Module) -> str:
    """A fingerprint of every parameter's exact bits, independent of device."""
    import hashlib

    digest = hashlib.sha256()
    for name, parameter in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
