"""Which folder a run is to lie in, and whether it was begun there already."""

from __future__ import annotations

import json
from pathlib import Path

from folio.errors import ConfigError
from folio.launch import Launch


def chosen_run(home: Path, out: Path | None, or_resume: bool, launch: Launch, again: bool) -> tuple[Path, bool]:
    """The run's folder, and whether to go on with it: begun by this job, which was started ``again``, or if asked.

    ``home`` is where runs of this recipe lie unless ``out`` says otherwise.
    """
    if out is not None:
        own_run = again and job_of(out) == launch.job  # another job's is refused, as it was at first
        return out, own_run or (or_resume and (out / "config.json").exists())
    if or_resume:
        raise ConfigError("--or-resume needs to know which run", "Name its folder with --out.")
    own = [run for run in sorted(home.parent.glob(f"{home.name}*")) if again and job_of(run) == launch.job]
    return (own[-1], True) if own else (fresh_folder(home), False)


def job_of(run: Path) -> str | None:
    """The job that began ``run``, None if no launcher did or it cannot be read."""
    try:
        job: str | None = json.loads((run / "config.json").read_bytes()).get("job")
    except (OSError, ValueError, AttributeError):
        return None
    return job


def fresh_folder(path: Path) -> Path:
    """``path``, or the first of ``path-2``, ``path-3``, ... that does not exist."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
