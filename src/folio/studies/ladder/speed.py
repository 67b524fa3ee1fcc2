"""How fast each rung is: some rungs in memory at a time, taking turns, and beside them the bottom."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from folio.errors import UserError
from folio.studies.ladder.budget import FirstTiming, SpeedPlan, plan_speed
from folio.studies.ladder.contenders import Contender, Failed, closing
from folio.studies.ladder.folder import time_name
from folio.studies.ladder.measuring import SMALLER, Measuring
from folio.studies.ladder.rungs import BOTTOM, Settings, Step


def planned(work: Measuring, plan: dict[str, Any], minutes: float, rounds: int, seeds: int) -> SpeedPlan:
    """How speed is measured: as planned before, or now, from a first timing, which is written into ``plan``."""
    if "speed" not in plan:
        begun = time.monotonic()
        first = first_timing(work)
        speed = plan_speed(first, work.shape, work.steps, minutes, rounds, seeds, work.machine.memory)
        plan |= {"speed": speed.as_dict(), "learning_step_s": first.learning_s, "timing_s": time.monotonic() - begun}
        work.folder.write_plan(plan)
    return SpeedPlan(**plan["speed"])


def first_timing(work: Measuring) -> FirstTiming:
    """A few steps of the bottom, of the first rung on the ladder's device, and of the model trained for losses."""
    work.tell("timing", 0, 3, "the bottom")
    candidates, on_device = work.shape.speed.sequences, Settings(device=work.machine.device)
    fewest = candidates[-1]
    bottom = _alone(work, Settings(), fewest)
    sequences, bottom_s, device_s, peak = fewest, bottom["seconds"], bottom["seconds"], bottom["peak_bytes"] or 0
    if on_device != Settings():
        work.tell("timing", 1, 3, "the first rung on the device")
        sequences, there = _most_that_fit(work, on_device)
        bottom_s, device_s, peak = bottom_s * sequences / fewest, there["seconds"], there["peak_bytes"] or 0
    work.tell("timing", 2, 3, "a small training")
    one = work.learner(on_device)
    with closing({"": one}):
        for steps in (2, 5):
            answer = one.ask({"settings": on_device.as_dict(), "seed": 0, "steps": steps, "at": [steps]})
    most = candidates[0] if on_device == Settings() else sequences
    return FirstTiming(sequences, most, bottom_s, device_s, peak, bottom["start_s"], answer["seconds"] / 5)


def _most_that_fit(work: Measuring, settings: Settings) -> tuple[int, dict[str, Any]]:
    for sequences in work.shape.speed.sequences:
        try:
            return sequences, _alone(work, settings, sequences)
        except Failed as error:
            trouble = error
            if "memory" not in str(error):
                break
    raise UserError(f"shape '{work.shape.name}' cannot be trained on {settings.device}: {trouble}", SMALLER)


def _alone(work: Measuring, settings: Settings, sequences: int) -> dict[str, Any]:
    """The first answer of a process of its own, and the seconds that it took to start."""
    try:
        one = work.timer(settings, sequences)
    except Failed as error:
        if settings == Settings():
            raise UserError(f"the bottom of the ladder cannot be measured: {error}", SMALLER) from None
        raise
    with closing({"": one}):
        return {**one.first, "start_s": max(0.5, one.start_s - 2 * one.first["seconds"])}


def measure_speed(work: Measuring, plan: SpeedPlan) -> None:
    """Measure every rung that was not yet, as many at a time as the plan says; less where memory does not hold them."""
    climbing, together = work.measured[1:], plan.together
    while missing := [step for step in climbing if work.timed(step) is None]:
        start = climbing.index(missing[0])
        group = []
        for step in climbing[start : start + together]:
            if step not in missing:
                break
            group.append(step)
        if not _Group(work, plan, group).measure():
            together = 1


class _Group:
    """Some neighbouring rungs, the one that they stand on, and the bottom."""

    def __init__(self, work: Measuring, plan: SpeedPlan, rungs: Sequence[Step]) -> None:
        self.work, self.plan, self.rungs = work, plan, list(rungs)
        sound = work.sound()
        lower = work.measured[: work.measured.index(self.rungs[0])]
        bottom = work.measured[0]
        self.base = next((one for one in reversed(lower) if one.kept and one in sound), bottom)
        self.needed = list(dict.fromkeys((bottom, self.base)))
        self.pool: dict[str, Contender] = {}
        self.failures: dict[str, str] = {}
        self.last: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, list[float]] = {}
        """Of a token, in each round, by rung."""

    def measure(self) -> bool:
        """Write a file for each rung; False if some were left for later, since memory did not hold all."""
        begun = time.monotonic()
        with closing(self.pool):
            whole = self._start()
            self._take_turns()
        for step in self.needed:
            if step.name in self.failures:
                raise UserError(f"rung '{step.name}' cannot be measured: {self.failures[step.name]}", SMALLER)
        self._write((time.monotonic() - begun) / len(self.rungs))
        return whole

    def _start(self) -> bool:
        for step in (*self.needed, *self.rungs):
            self._tell(f"starting {step.name}")
            try:
                self.pool[step.name] = self.work.timer(step.settings, self.plan.sequences)
            except Failed as error:
                if "memory" in str(error) and step in self.rungs[1:]:
                    del self.rungs[self.rungs.index(step) :]
                    return False
                self.failures[step.name] = str(error)
                if step in self.needed:
                    return True
        return True

    def _take_turns(self) -> None:
        """Rounds of about equal turns, their order turned round after each: a machine that drifts does so for all."""
        turn_s = self.work.shape.turn_s
        self.last = {name: one.first for name, one in self.pool.items()}
        steps = {name: max(1, round(turn_s / first["seconds"])) for name, first in self.last.items()}
        self.seconds = {name: [] for name in self.pool}
        for number in range(self.plan.rounds):
            self._tell(f"round {number + 1} of {self.plan.rounds}")
            for name in list(self.pool) if number % 2 == 0 else list(self.pool)[::-1]:
                try:
                    self.last[name] = self.pool[name].ask({"steps": steps[name]})
                except Failed as error:
                    self.failures[name] = str(error)
                    self.pool.pop(name).close()
                else:
                    self.seconds[name].append(self.last[name]["seconds"] / self.last[name]["tokens"])

    def _tell(self, words: str) -> None:
        climbing = self.work.measured[1:]
        done = sum(self.work.timed(step) is not None for step in climbing)
        names = f"{self.rungs[0].name} to {self.rungs[-1].name}" if len(self.rungs) > 1 else self.rungs[0].name
        self.work.tell("speed", done, len(climbing), f"{names}: {words}")

    def _write(self, took_s: float) -> None:
        write, bottom = self.work.folder.write, self.work.measured[0]
        if self.work.timed(bottom) is None:
            write(time_name(BOTTOM), {**_facts(self.last[BOTTOM]), "self": self.seconds[BOTTOM], "took_s": 0.0})
        below = self.base.name
        for step in self.rungs:
            if step.name in self.failures:
                write(time_name(step.name), {"failed": self.failures[step.name], "took_s": took_s})
                continue
            rounds = {"self": step.name, "below": below, "bottom": BOTTOM}
            turns = {key: self.seconds[name] for key, name in rounds.items()}
            write(time_name(step.name), {**_facts(self.last[step.name]), "on": below, **turns, "took_s": took_s})
            below = step.name if step.kept else below


def _facts(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"tokens": answer["tokens"], "peak_bytes": answer["peak_bytes"]}
