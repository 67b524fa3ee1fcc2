"""What a launcher such as ``torchrun`` told this process about itself; without one, a process is alone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from folio.errors import ConfigError

REMEDY = "Start ranks with: torchrun --nproc_per_node 2 -m folio train ... (or unset RANK and WORLD_SIZE)."


@dataclass(frozen=True, slots=True)
class Launch:
    """The place of this process among those of one job, as torchrun's environment variables give it."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    restarts: int = 0
    """How often the launcher has started this job's processes again (``torchrun --max-restarts``)."""
    job: str | None = None
    """A name that is the same for every start of one job, and for no other on this machine."""

    @property
    def first(self) -> bool:
        """Whether this is the one that prints and writes."""
        return self.rank == 0


def launched(environment: Mapping[str, str] = os.environ) -> Launch:
    """Read ``RANK``, ``WORLD_SIZE`` and the like; :class:`ConfigError` if they contradict each other."""
    if "RANK" not in environment and "WORLD_SIZE" not in environment:
        return Launch()

    def number(name: str, default: int) -> int:
        try:
            return int(environment.get(name, default))
        except ValueError:
            raise ConfigError(f"{name}={environment[name]!r} in the environment is no number", REMEDY) from None

    rank, world_size = number("RANK", 0), number("WORLD_SIZE", 1)
    if not 0 <= rank < world_size or (world_size > 1 and "MASTER_ADDR" not in environment):
        raise ConfigError(
            f"RANK={rank} and WORLD_SIZE={world_size} are in the environment, but no launcher set them", REMEDY
        )
    run_id = environment.get("TORCHELASTIC_RUN_ID")
    return Launch(
        rank,
        world_size,
        number("LOCAL_RANK", rank),
        number("LOCAL_WORLD_SIZE", world_size),
        number("TORCHELASTIC_RESTART_COUNT", 0),
        None if run_id is None else f"{run_id}-{os.getppid()}",
    )


NO_LAUNCHER = Launch()


def finish_speaking() -> None:
    """Ignore SIGTERM from here to the end: when a rank is lost the launcher ends the others before they have told why.

    It waits for half a minute before it uses force.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def another_told(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether another rank of this machine has left torchrun the reason of its end."""
    own = environment.get("TORCHELASTIC_ERROR_FILE")
    return own is not None and any(path != Path(own) for path in Path(own).parent.parent.glob("*/error.json"))
