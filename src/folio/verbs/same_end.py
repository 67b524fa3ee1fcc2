"""Whether two finished runs ended alike: every tensor of their last checkpoints bit for bit, and every loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from folio.artifacts import CHECKPOINT, verify
from folio.errors import ArtifactError
from folio.model.folder import load_model
from folio.training.checkpoint import Checkpoint, list_checkpoints, weights_sha256
from folio.training.metrics import read_metrics

NAMED_LOSSES = 3
"""How many of the losses that differ are named."""


def last_checkpoint(run: Path) -> Checkpoint:
    """The newest checkpoint of ``run``, every byte of it verified; :class:`ArtifactError` if there is no sound one."""
    found = list_checkpoints(run)
    if not found:
        raise ArtifactError(f"'{run}' has no checkpoint", "Restore it, or train again.")
    verify(found[-1].path, CHECKPOINT)
    return found[-1]


def final_weights_sha256(run: Path) -> str | None:
    """The fingerprint of the weights that ``run`` ended with (averaged ones, where they are kept); None without any."""
    try:
        return weights_sha256(load_model(last_checkpoint(run).model, device="cpu"))
    except ArtifactError:
        return None


def differences(run: Path, other: Path) -> list[str]:
    """What is not equal at the end of two runs, a line each; empty if weights, state and losses are the same bits."""
    try:
        ours, theirs = last_checkpoint(run), last_checkpoint(other)
    except ArtifactError as error:
        return [error.problem]
    if ours.step != theirs.step:
        return [f"the last checkpoint is of step {ours.step:,}, the other of step {theirs.step:,}"]
    return [*_different_tensors(ours.path, theirs.path), *_different_losses(run, other)]


def _different_tensors(ours: Path, theirs: Path) -> list[str]:
    names, others = _tensor_files(ours), _tensor_files(theirs)
    found = [f"{name}: only in one of the two" for name in sorted(names ^ others)]
    for name in sorted(names & others):
        with safe_open(ours / name, "pt") as a, safe_open(theirs / name, "pt") as b:
            found += [f"{name}: {key}: only in one of the two" for key in sorted({*a.keys()} ^ {*b.keys()})]
            for key in sorted({*a.keys()} & {*b.keys()}):
                if told := _difference(a.get_tensor(key), b.get_tensor(key)):
                    found.append(f"{name}: {key}: {told}")
    return found


def _tensor_files(checkpoint: Path) -> set[str]:
    return {file.relative_to(checkpoint).as_posix() for file in checkpoint.rglob("*.safetensors")}


def _difference(a: torch.Tensor, b: torch.Tensor) -> str:
    """Empty if equal bit for bit: two not-a-numbers of the same bits are equal, 0.0 and -0.0 are not."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return f"{a.dtype} {tuple(a.shape)}, the other {b.dtype} {tuple(b.shape)}"
    width = max(1, a.element_size())
    bits_a, bits_b = (t.contiguous().reshape(-1).view(torch.uint8).reshape(-1, width) for t in (a, b))
    unequal = (bits_a != bits_b).any(dim=1)
    if not bool(unequal.any()):
        return ""
    furthest = (a.double() - b.double()).abs().max().item()
    return f"{int(unequal.sum()):,} of {a.numel():,} values differ, by {furthest:.3g} at most"


def _different_losses(run: Path, other: Path) -> list[str]:
    found = []
    for kind in ("train", "validation"):
        ours, theirs = _losses(run, kind), _losses(other, kind)
        steps = sorted(step for step in ours.keys() | theirs.keys() if ours.get(step) != theirs.get(step))
        for step in steps[:NAMED_LOSSES]:
            found.append(f"{kind} loss of step {step:,}: {ours.get(step)}, the other {theirs.get(step)}")
        if len(steps) > NAMED_LOSSES:
            found.append(f"{kind} loss: {len(steps):,} steps differ")
    return found


def _losses(run: Path, kind: str) -> dict[int, Any]:
    return {line["step"]: line["nats_per_token"] for line in read_metrics(run) if line["kind"] == kind}
