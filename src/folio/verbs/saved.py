"""What a run says of how it was begun."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

from folio.checksums import read_sealed_json
from folio.errors import ArtifactError


def begun_by(run: Path, verb: str) -> dict[str, Any]:
    """``config.json`` of ``run``, which has to be a run of ``folio VERB``.

    :class:`ArtifactError` if it is no run, is damaged, or was made by another verb, which is then named.
    """
    path = run / "config.json"
    if not path.is_file():
        raise ArtifactError(f"'{run}' is not a run: it has no config.json", "Give the folder of a run.")
    saved = read_sealed_json(path, "Restore it, or start a new run.")
    if "recipe" not in saved:
        raise ArtifactError(f"'{run}' is not a run: its config.json holds no recipe", "Give a run's folder.")
    if (other := saved.get("verb", "train")) != verb:
        raise ArtifactError(
            f"'{run}' was made by folio {other}", f"Go on with it by: folio {other} --resume {quote(str(run))}"
        )
    return saved
