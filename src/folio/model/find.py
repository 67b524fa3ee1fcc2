"""From what a person names - a run, a checkpoint, a model folder - to the model folder meant."""

from __future__ import annotations

import math
from pathlib import Path

from folio.artifacts import Manifest, read_manifest
from folio.errors import ArtifactError

LOSS_KEY = "nats_per_token"
"""Key of a checkpoint's manifest config: its validation loss, in nats per token."""


def find_model(path: str | Path) -> Path:
    """The model folder that ``path`` means.

    A model folder is itself; a checkpoint, its ``model/``; a run, the kept checkpoint of lowest validation loss, or
    the newest one if none was validated. :class:`ArtifactError` if it is none of these.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ArtifactError(f"'{path}' {what}", "Give a run, a checkpoint or a model folder.")
    if (folder / "model" / "config.json").is_file():
        return folder / "model"
    if (folder / "checkpoints").is_dir():
        return _best(folder) / "model"
    if (folder / "config.json").is_file():
        return folder
    raise ArtifactError(f"'{path}' is neither a run, nor a checkpoint, nor a model folder", "Check the path.")


def _best(run: Path) -> Path:
    """The complete checkpoint of ``run`` with the lowest validation loss, else the newest."""
    complete: list[tuple[Path, Manifest]] = []
    for folder in sorted((run / "checkpoints").glob("step-*")):
        if (folder / "model" / "config.json").is_file():
            try:
                complete.append((folder, read_manifest(folder)))
            except ArtifactError:
                continue
    if not complete:
        raise ArtifactError(f"run '{run}' has no complete checkpoint yet", "Train until the first one is saved.")
    measured = [(_loss(manifest), folder) for folder, manifest in complete if math.isfinite(_loss(manifest))]
    return min(measured)[1] if measured else complete[-1][0]


def _loss(manifest: Manifest) -> float:
    value = manifest.config.get(LOSS_KEY)
    return float(value) if isinstance(value, int | float) else math.nan
