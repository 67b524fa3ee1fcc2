"""How fast each rung is: some rungs in memory at a time, taking turns, and beside them the bottom."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from folio.errors import UserError
from folio.studies.ladder.budget import SpeedPlan, warm_up_of
from folio.studies.ladder.contenders import Contender, Failed, closing
from folio.studies.ladder.folder import time_name
from folio.studies.ladder.measuring import SMALLER, Measuring
from folio.studies.ladder.rungs import BOTTOM, Step


def measure_speed(work: Measuring, plan: SpeedPlan) -> None:
    """Measure every rung that was not yet, as many at a time as the plan says; less where memory does not hold them.

    The bottom is in memory all the while, and the rung that the next ones stand on stays there.
    """
    climbing, together = work.measured[1:], plan.together
    pool: dict[str, Contender] = {}
    with closing(pool):
        while missing := [step for step in climbing if work.timed(step) is None]:
            start = climbing.index(missing[0])
            group = []
            for step in climbing[start : start + together]:
                if step not in missing:
                    break
                group.append(step)
            if not _Group(work, plan, group, pool).measure():
                together = 1


class _Group:
    """Some neighbouring rungs, the one that they stand on, and the bottom."""

    def __init__(self, work: Measuring, plan: SpeedPlan, rungs: Sequence[Step], pool: dict[str, Contender]) -> None:
        self.work, self.plan, self.rungs, self.pool = work, plan, list(rungs), pool
        sound = work.sound()
        lower = work.measured[: work.measured.index(self.rungs[0])]
        bottom = work.measured[0]
        self.base = next((one for one in reversed(lower) if one.kept and one in sound), bottom)
        self.needed = list(dict.fromkeys((bottom, self.base)))
        self.failures: dict[str, str] = {}
        self.seconds: dict[str, list[float]] = {}
        """Of a token, in each round, by rung."""
        self.last: dict[str, dict[str, Any]] = {}

    def measure(self) -> bool:
        """Write a file for each rung; False if some were left for later, since memory did not hold all."""
        begun = time.monotonic()
        for name in self.pool.keys() - {step.name for step in self.needed}:
            self.pool.pop(name).close()
        whole = self._start()
        self._take_turns()
        for step in self.needed:
            if step.name in self.failures:
                raise UserError(f"rung '{step.name}' cannot be measured: {self.failures[step.name]}", SMALLER)
        self._write((time.monotonic() - begun) / len(self.rungs))
        return whole

    def _start(self) -> bool:
        """Processes load beside each other, and warm up one by one."""
        new = [step for step in (*self.needed, *self.rungs) if step.name not in self.pool]
        self._tell(f"starting {', '.join(step.name for step in new)}")
        for step in new:
            self.pool[step.name] = self.work.timer(step.settings, self.plan.sequences)
        loaded = [step for step in new if self._asked(step, None)]
        for step in loaded:
            self._tell(f"warming up {step.name}")
            for _ in range(warm_up_of(step.settings)):
                if not self._asked(step, {"steps": 1}):
                    break
        for step in self.rungs[1:]:
            if "memory" in self.failures.get(step.name, ""):
                self._leave_for_later(self.rungs[self.rungs.index(step) :])
                return False
        return True

    def _asked(self, step: Step, question: dict[str, Any] | None) -> bool:
        """Ask, or hear the first word; what fails is closed."""
        one = self.pool[step.name]
        try:
            if question is None:
                one.hear()
            else:
                one.ask(question)
        except Failed as error:
            self.failures[step.name] = str(error)
            self.pool.pop(step.name).close()
            return False
        return True

    def _leave_for_later(self, rungs: Sequence[Step]) -> None:
        for step in rungs:
            self.failures.pop(step.name, None)
            if step.name in self.pool:
                self.pool.pop(step.name).close()
            self.rungs.remove(step)

    def _take_turns(self) -> None:
        """Rounds of about equal turns, their order turned round after each: a machine that drifts does so for all."""
        turning = [step for step in (*self.needed, *self.rungs) if step.name in self.pool]
        turn_s = self.work.shape.turn_s
        steps = {step.name: max(1, round(turn_s / self.pool[step.name].latest["seconds"])) for step in turning}
        self.seconds = {step.name: [] for step in turning}
        for number in range(self.plan.rounds):
            self._tell(f"round {number + 1} of {self.plan.rounds}")
            for step in turning if number % 2 == 0 else turning[::-1]:
                if step.name in self.pool and self._asked(step, {"steps": steps[step.name]}):
                    last = self.last[step.name] = self.pool[step.name].latest
                    self.seconds[step.name].append(last["seconds"] / last["tokens"])

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
