"""What two ranks say to each other in ``tests/test_ranks.py``; each writes what it heard, as JSON.

``RANK=0 WORLD_SIZE=2 MASTER_ADDR=... MASTER_PORT=... python rank_talk.py FOLDER``: a launcher that is not torchrun.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from folio.errors import ConfigError
from folio.ranks import Ranks, joined


def heard(work: Callable[[], Any]) -> list[Any]:
    """What ``work`` gave, or the kind of its error and its words; and how long that took."""
    begun = time.monotonic()
    try:
        answer = ["gave", work()]
    except Exception as error:
        answer = [type(error).__name__, str(error)]
    return [*answer, time.monotonic() - begun]


def failing(ranks: Ranks, on: int, error: Exception) -> Callable[[], str]:
    def work() -> str:
        if ranks.rank == on:
            raise error
        return f"done by {ranks.rank}"

    return work


def made_once(ranks: Ranks, path: Path) -> str:
    """Something that the first rank takes its time to make, and others find made."""
    if path.exists():
        return "found"
    time.sleep(0.5)
    path.write_text(str(ranks.rank))
    return "made"


def talk(ranks: Ranks, folder: Path) -> dict[str, Any]:
    errors = {
        "OSError": OSError(28, "No space left on device", "somewhere"),
        "ConfigError": ConfigError("wrong", "Do otherwise."),
        "ZeroDivisionError": ZeroDivisionError("by zero"),
    }
    other = ranks.another()
    answers: dict[str, Any] = {
        "gather": ranks.gather({"rank": ranks.rank}),
        "share": ranks.share(f"of {ranks.rank}"),
        "sum": [value.hex() for value in ranks.sum([0.1 + ranks.rank, 1e-20, 2**53 - 1 + ranks.rank])],
        "another": other.gather(ranks.rank),
        "once": ranks.first_on_each_machine(lambda: made_once(ranks, folder / "made")),
        "well": heard(lambda: ranks.attempt(failing(ranks, -1, OSError()))),
        **{name: heard(lambda e=error: ranks.attempt(failing(ranks, 1, e))) for name, error in errors.items()},  # type: ignore[misc]
        "after": ranks.gather(ranks.rank),
    }
    impatient = ranks.another(timeout_s=1.5)
    if ranks.rank == 1:
        time.sleep(4)
    answers["silent"] = heard(lambda: impatient.sum([1.0]))
    ranks.wait()
    return answers


def main(folder: Path) -> None:
    with joined("cpu", timeout_s=60) as ranks:
        answers = talk(ranks, folder)
        if ranks.rank == 1:
            (folder / "1.json").write_text(json.dumps(answers))
            os.kill(os.getpid(), signal.SIGKILL)
        answers["lost"] = heard(ranks.wait)
        (folder / "0.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
