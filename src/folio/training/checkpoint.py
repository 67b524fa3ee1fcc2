"""Checkpoints of a run: ``checkpoints/step-00000500/{model/,state/}``, whole or not there at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from folio.artifacts import CHECKPOINT, MODEL_PART, Manifest, read_manifest, verify, write_file
from folio.errors import ArtifactError
from folio.locks import locked
from folio.model.find import best_index, judged_of
from folio.training.objective import UNITS, loss_key

KEPT = "kept.json"
"""In a run's folder, where others build on its checkpoints: their names, by that of the checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """One saved moment of a run."""

    path: Path
    step: int
    loss: float | None = None
    """On validation examples, in nats per token, or per whatever else the run counts."""
    judged: float | None = None
    """What decides which is best, lower is better; None where it was not measured."""
    elapsed_s: float = 0.0
    unprobed: bool = False
    """Whether the run was stopped amid what was due after this step."""

    @classmethod
    def of(cls, path: Path, manifest: Manifest) -> Checkpoint:
        facts = manifest.config
        return cls(
            path,
            facts["step"],
            loss_of(facts),
            judged_of(facts),
            facts.get("elapsed_s", 0.0),
            facts.get("unprobed", False),
        )

    @property
    def model(self) -> Path:
        return self.path / MODEL_PART


def loss_of(facts: Mapping[str, Any]) -> float | None:
    """The validation loss that a checkpoint's ``facts`` hold, if they hold one."""
    return next((facts[key] for key in map(loss_key, UNITS) if facts.get(key) is not None), None)


def list_checkpoints(run: Path) -> list[Checkpoint]:
    """Complete checkpoints, oldest first; folders whose manifest cannot be read are left out."""
    found = []
    for path in sorted((run / "checkpoints").glob("step-*")):
        try:
            manifest: Manifest = read_manifest(path, CHECKPOINT)
        except ArtifactError:
            continue
        found.append(Checkpoint.of(path, manifest))
    return found


def best_checkpoint(checkpoints: list[Checkpoint]) -> Checkpoint | None:
    """The one judged best, by validation loss unless the run says otherwise; the newest if none was; None of none."""
    index = best_index([checkpoint.judged for checkpoint in checkpoints])
    return None if index is None else checkpoints[index]


def put_back_exchanged(run: Path) -> None:
    """Give a checkpoint its name again if a kill came between taking it away and putting the same step's new one."""
    for old in (run / "checkpoints").glob(".step-*.old-*/folder"):
        home = old.parent.with_name(old.parent.name.partition(".old-")[0].removeprefix("."))
        if not home.exists():
            old.rename(home)


def newest_sound_checkpoint(run: Path) -> tuple[Checkpoint, list[str]]:
    """The newest checkpoint whose every byte is as written, and one line for each damaged one that was passed over."""
    damaged = []
    for path in sorted((run / "checkpoints").glob("step-*"), reverse=True):
        try:
            manifest = verify(path, CHECKPOINT)
            _refuse_strangers(path, manifest)
        except ArtifactError as error:
            damaged.append(error.problem)
            continue
        return Checkpoint.of(path, manifest), damaged
    detail = f" ({'; '.join(damaged)})" if damaged else ""
    raise ArtifactError(f"'{run}' has no checkpoint to go on from{detail}", "Start the run anew in another folder.")


def _refuse_strangers(path: Path, manifest: Manifest) -> None:
    """:class:`ArtifactError` for a checkpoint of another step under this name, or a file that it did not write."""
    if path.name != f"step-{manifest.config.get('step'):08d}":
        raise ArtifactError(f"'{path}' holds the checkpoint of another step", "Give it its own name again.")
    for file in path.glob("state/*"):
        if f"state/{file.name}" not in manifest.files:
            raise ArtifactError(f"'{file}' is none of the files that its manifest names", "Remove it.")


def set_aside_after(run: Path, step: int) -> None:
    """Rename what lies after ``step`` to ``damaged-step-...``: a run that goes on from ``step`` comes by there again.

    Left in place, it would count as the newest, push sound checkpoints out, and stand in the way of saving.
    """
    for path in (run / "checkpoints").glob("step-*"):
        if path.name > f"step-{step:08d}":
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)


def keep_checkpoint(folder: Path, by: str) -> str | None:
    """Mark the checkpoint that ``folder`` is, or lies in, as one that its run is to keep, since ``by`` builds on it.

    The mark stands in the run's :data:`KEPT`, by the checkpoint's name; whoever removes it there frees the checkpoint.
    A folder that lies in no run's checkpoint needs none. A line that says why where the mark cannot be written, as in a
    run that may only be read; else None.
    """
    places = (folder.absolute(), *folder.absolute().parents)
    place = next((one for one in places if one.name.startswith("step-") and one.parent.name == "checkpoints"), None)
    if place is None:
        return None
    run = place.parent.parent
    try:
        with locked(run / f".{KEPT}.lock"):
            marks = _marks(run)
            if by not in marks.setdefault(place.name, []):
                marks[place.name].append(by)
                write_file(run / KEPT, json.dumps(marks, indent=2) + "\n")
    except (OSError, ArtifactError) as error:
        why = error.problem if isinstance(error, ArtifactError) else error.strerror or error
        return f"'{folder}' cannot be marked as kept ({why}): its run, if trained on, may clear it away"
    return None


def _marks(run: Path) -> dict[str, list[str]]:
    """Who builds on which checkpoint of ``run``; :class:`ArtifactError` if the file is damaged."""
    path = run / KEPT
    if not path.exists():
        return {}
    try:
        marks = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"'{path}' is damaged: {error}", "Mend or remove it.") from None
    if not isinstance(marks, dict) or not all(isinstance(names, list) for names in marks.values()):
        raise ArtifactError(f"'{path}' is damaged: it does not list names by checkpoint", "Mend or remove it.")
    return marks


def _marked(run: Path) -> set[str]:
    """The checkpoints that others build on, by name: all, where it cannot be read which."""
    try:
        return {name for name, by in _marks(run).items() if by}
    except (OSError, ArtifactError):
        return {path.name for path in (run / "checkpoints").glob("step-*")}


def remove_surplus(run: Path, *, keep_last: int, keep_every: int) -> None:
    """Keep the newest ``keep_last``, the best, multiples of ``keep_every``, and what :func:`keep_checkpoint` marked.

    What a kill left half-made is cleared away too.
    """
    checkpoints = list_checkpoints(run)
    best, marked = best_checkpoint(checkpoints), _marked(run)
    kept = {c.path for c in checkpoints[-keep_last:]} | ({best.path} if best else set())
    kept |= {c.path for c in checkpoints if c.path.name in marked}
    for checkpoint in checkpoints:
        if checkpoint.path not in kept and not (keep_every and checkpoint.step % keep_every == 0):
            half_gone = checkpoint.path.with_name(f".{checkpoint.path.name}")
            checkpoint.path.rename(half_gone)  # a kill amid the removal must not leave what looks like a checkpoint
            shutil.rmtree(half_gone)
    for leftover in (run / "checkpoints").glob(".step-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def weights_sha256(model: torch.nn.Module) -> str:
    """A fingerprint of every parameter's exact bits, independent of device."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
