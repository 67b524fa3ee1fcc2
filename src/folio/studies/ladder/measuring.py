"""What every measurement of a ladder needs: its folder, shape and machine, and the processes that do the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from folio.errors import ArtifactError, UserError
from folio.studies.ladder.contenders import Contender, Failed, closing
from folio.studies.ladder.folder import LadderFolder, time_name
from folio.studies.ladder.machine import Machine, machine_of
from folio.studies.ladder.rungs import Settings, Step
from folio.studies.ladder.shapes import Shape

WINDOWS = 128
"""Held-out windows that every loss is a mean over, the same for all."""
MOST_LEARNERS = 16
SMALLER = "Use a smaller --shape."
Tell = Callable[[str, int, int, str], None]
"""Is told of a phase, how much of it is done, of how much, and what is going on."""


@dataclass
class Measuring:
    """One ladder under way."""

    folder: LadderFolder
    shape: Shape
    machine: Machine
    steps: Sequence[Step]
    tell: Tell

    @property
    def measured(self) -> list[Step]:
        """The rungs that have a place on this machine, the bottom first."""
        return [step for step in self.steps if not step.refused]

    def timed(self, step: Step) -> dict[str, Any] | None:
        """What is known of a rung's speed, or why it failed; None if nothing is."""
        return self.folder.read(time_name(step.name))

    def sound(self) -> list[Step]:
        """The rungs whose speed was measured, the bottom first."""
        return [step for step in self.measured if "failed" not in (self.timed(step) or {"failed": ""})]

    def timer(self, settings: Settings, sequences: int) -> Contender:
        """A process that takes timed steps, still to be heard."""
        ranks = settings.ranks
        threads = self.machine.threads // ranks if ranks > 1 and settings.device == "cpu" else 0
        task = {"job": "time", "settings": settings.as_dict(), "sequences": sequences, **self._task}
        return Contender(task, ranks=ranks, threads=threads)

    def learner(self, process: Settings) -> Contender:
        """A process that trains for losses, set up as ``process`` wants it and still to be heard.

        On a CPU it has one core, so that as many as there are cores train beside each other.
        """
        task = {"job": "learn", "settings": process.as_dict(), "windows": WINDOWS, **self._task}
        return Contender(task, threads=1 if self.machine.device == "cpu" else 0)

    def as_learned(self, settings: Settings) -> Settings:
        """The rung's settings in a training for its loss: what only changes the order of sums is the same for all."""
        return replace(settings, device=self.machine.device, ranks=1, compile=False)

    @property
    def learners(self) -> int:
        """How many of them work beside each other."""
        beside = self.machine.device == "cpu" and os.name == "posix"  # elsewhere one cannot wait for several
        return max(1, min(self.machine.threads, MOST_LEARNERS)) if beside else 1

    @property
    def _task(self) -> dict[str, Any]:
        return {"shape": self.shape.name, "device": self.machine.device, "folder": str(self.folder.path.resolve())}


def machine_here(device: str) -> Machine:
    """What this machine can do; :class:`UserError` if it has no such device."""
    from folio.runtime import choose_device

    choose_device(device)  # says what is wrong in words
    try:
        with closing({"": Contender({"job": "facts", "device": device})}) as pool:
            return machine_of(pool[""].hear())
    except Failed as error:
        raise UserError(f"the machine cannot be looked at: {error}", "Try --device cpu.") from None


def refuse_another(before: Machine, now: Machine) -> None:
    """:class:`ArtifactError` where finished measurements are of another machine than this."""
    for what in ("device", "name", "gpus", "threads"):
        old, new = getattr(before, what), getattr(now, what)
        if old != new:
            raise ArtifactError(
                f"the measurements so far are of another machine ({what} {old}, here {new})",
                "Go on there, or measure into another folder with --to.",
            )
