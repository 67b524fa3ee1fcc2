"""From what a person names - a run, a checkpoint, a model folder, an adapter - to the folder meant."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from folio.artifacts import ADAPTER_PART, CHECKPOINT, MANIFEST, MODEL_PART, read_manifest
from folio.errors import ArtifactError

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""The two files of an adapter folder, as PEFT names them."""
JUDGED_KEY = "judged"
"""Key of a checkpoint's manifest config: the number that decides which is best, lower is better; null if unknown."""
LOSS_KEY = "nats_per_token"
"""Its validation loss in nats per token: what decides where there is no other."""


def find_model(path: str | Path) -> Path:
    """The folder of the model that ``path`` means: a model folder or, where :func:`is_adapter`, an adapter's.

    A model folder and an adapter folder are themselves; a checkpoint, its ``model/`` or ``adapter/``; a run, the kept
    checkpoint that was judged best, or the newest one if none was validated. :class:`ArtifactError` if it is none of
    these, a run that has no model yet, or one in which a damaged manifest hides which checkpoint is the best.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ArtifactError(f"'{path}' {what}", "Give a run, a checkpoint, a model folder or an adapter.")
    if (part := _part(folder)) is not None:
        return part
    if (folder / "checkpoints").is_dir():
        best = _best(folder)
        return _part(best) or best / MODEL_PART
    _refuse_begun_run(folder)
    if is_adapter(folder) or (folder / "config.json").is_file():
        return folder
    raise ArtifactError(
        f"'{path}' is neither a run, nor a checkpoint, nor a model or adapter folder", "Check the path."
    )


def refuse_searching_run(run: Path) -> None:
    """:class:`ArtifactError` if ``run`` has begun with a search that has chosen nothing yet."""
    begun = _begun(run)
    if begun.get("verb") == "finetune" and "resolved" not in begun:
        raise ArtifactError(f"'{run}' is amid its search", f"Go on with it: {_resume(run, begun)}")


def _refuse_begun_run(run: Path) -> None:
    """The same, and of a run that has saved nothing yet."""
    refuse_searching_run(run)
    if begun := _begun(run):
        raise ArtifactError(f"run '{run}' has no complete checkpoint yet", f"Go on with it: {_resume(run, begun)}")


def _begun(run: Path) -> dict[str, Any]:
    """What ``config.json`` says of a run; empty of what is no run, or cannot be read."""
    try:
        saved = json.loads((run / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return saved if isinstance(saved, dict) and "recipe" in saved else {}


def _resume(run: Path, begun: Mapping[str, Any]) -> str:
    return f"folio {begun.get('verb', 'train')} --resume {shlex.quote(str(run))}"


def is_adapter(folder: Path) -> bool:
    """Whether ``folder`` holds an adapter, whoever wrote it; one that holds all weights too is taken for a model."""
    whole = any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json"))
    return not whole and any((folder / name).is_file() for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS))


def _part(checkpoint: Path) -> Path | None:
    """What a checkpoint holds for use; None if the folder is no checkpoint."""
    for name, file in ((MODEL_PART, "config.json"), (ADAPTER_PART, ADAPTER_CONFIG)):
        part = checkpoint / name
        if (part / file).is_file() or (part.is_dir() and (checkpoint / MANIFEST).is_file()):
            return part
    return None


def best_index(losses: Sequence[float | None]) -> int | None:
    """Which of a run's checkpoints, oldest first, is best: the lowest finite number, the later of equal ones.

    The last one if none has such a number; None if there are none.
    """
    measured = [(loss, -index) for index, loss in enumerate(losses) if loss is not None and math.isfinite(loss)]
    return -min(measured)[1] if measured else len(losses) - 1 if losses else None


def other_checkpoints(run: str | Path, chosen: Path) -> str:
    """What to do where the model or adapter ``chosen`` in ``run`` is damaged; empty if ``run`` is no run."""
    folders = sorted((Path(run) / "checkpoints").glob("step-*"))
    if not folders:
        return ""
    names = ", ".join(f"'{folder}'" for folder in reversed(folders) if folder not in (chosen, chosen.parent))
    return (
        f"Restore it, or name another checkpoint of the run: {names}." if names else "It is the run's only checkpoint."
    )


def _best(run: Path) -> Path:
    """The checkpoint of ``run`` that was judged best, else the newest; none may be damaged."""
    sound: list[tuple[Path, float | None]] = []
    for folder in sorted((run / "checkpoints").glob("step-*")):
        try:
            sound.append((folder, judged_of(read_manifest(folder, CHECKPOINT).config)))
        except ArtifactError as error:
            if folder.exists():  # a run that is going on may just have cleared it away
                raise ArtifactError(
                    f"{error.problem}; so the best checkpoint of '{run}' is not known", other_checkpoints(run, folder)
                ) from None
    index = best_index([loss for _, loss in sound])
    if index is None:
        raise ArtifactError(f"run '{run}' has no complete checkpoint yet", "Train until the first one is saved.")
    return sound[index][0]


def judged_of(facts: Mapping[str, Any]) -> float | None:
    """The number in a checkpoint's ``facts`` by which it is compared with others of its run."""
    value = facts.get(JUDGED_KEY, facts.get(LOSS_KEY))
    return float(value) if isinstance(value, int | float) else None
