"""One recipe trained undisturbed, and again while its processes are killed at random moments, until the runs end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from folio.errors import BrokenPromise
from folio.training.config import TrainConfig
from folio.verbs.victim import SAVE, START, STEP, VALIDATION, Trainer, Victim, Watch

POLL_S = 0.002
AIMS = (START, STEP, STEP, VALIDATION, SAVE)
"""What kills are aimed at, shuffled, again and again. An aim is a wish: the moment that was hit is seen afterwards."""
LEAVING_S = 60.0
"""How long a process may live on after the last step's line: it writes a report."""
PATIENCE_S = 300.0
"""How long nothing may happen on disk before a run is stuck; or ten times the undisturbed run's longest silence."""
RESTARTS = 1000


@dataclass
class Kill:
    """One kill: which process of which run, what it was doing, and where the run went on."""

    number: int
    run: str
    target: str
    moment: str
    step: int | None
    """The last step that the killed process told of."""
    resumed_from: int | None = None
    """The step that the run went on from; None if it had done its last one."""

    @property
    def steps_again(self) -> int | None:
        return None if self.step is None or self.resumed_from is None else self.step - self.resumed_from

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "steps_again": self.steps_again}


@dataclass
class Aim:
    """When to kill: ``delay_s`` after the start, or after the first step as soon as ``moment`` is seen, plus a lag."""

    moment: str
    delay_s: float
    lag_s: float
    patience_s: float
    _seen_at: float | None = None

    def reached(self, watch: Watch, now: float) -> bool:
        if self.moment == START:
            return now >= watch.since + self.delay_s
        if watch.first_step_at is None or now < watch.first_step_at + self.delay_s:
            return False
        if self._seen_at is None and watch.moment == self.moment:
            self._seen_at = now
        if self._seen_at is not None:
            return now >= self._seen_at + self.lag_s
        return self.moment == STEP or now >= watch.first_step_at + self.delay_s + self.patience_s


@dataclass
class Timing:
    """What a run takes, in seconds: up to its first step, from there to its end, and each moment on average."""

    start_s: float = 0.0
    train_s: float = 0.0
    moments_s: dict[str, float] = field(default_factory=dict)
    silence_s: float = 0.0


def train_undisturbed(trainer: Trainer, run: Path, config: TrainConfig, tell: Callable[[int], None]) -> Timing:
    """Train to the end; :class:`folio.errors.UserError` with the process's own words if it fails by itself."""
    watch = Watch(run, config)
    with Victim(trainer, run) as child:
        while (code := child.exit_code()) is None:
            if watch.look():
                tell(watch.step or 0)
            time.sleep(POLL_S)
        watch.look()
        if code != 0:
            raise child.complaint()
    first = watch.first_step_at or watch.since
    moments = {moment: mean(times) for moment, times in watch.spells.items()}
    return Timing(first - watch.since, (watch.finished_at or first) - first, moments, watch.longest_silence_s)


class Killing:
    """``wanted`` kills of runs of one recipe: ``kills`` and ``runs`` hold what was done so far."""

    def __init__(self, trainer: Trainer, folder: Path, config: TrainConfig, timing: Timing, wanted: int, seed: int):
        self.trainer, self.folder, self.config, self.timing = trainer, folder, config, timing
        self.wanted, self.draw = wanted, random.Random(seed)
        self.kills: list[Kill] = []
        self.runs: list[Path] = []
        self._aims: list[str] = []
        self._one_rank: list[bool] = []

    def run(self, tell: Callable[[str, int], None]) -> None:
        """Train, killing as often as wanted, and in a new folder when a run ends before; every run goes to its end.

        ``tell`` gets the run's name and its step. :class:`BrokenPromise` if a run does not go on after a kill.
        """
        while len(self.kills) < self.wanted:
            run = self.folder / f"killed-{len(self.runs) + 1}"
            self.runs.append(run)
            watch = Watch(run, self.config)
            going = True
            while going:
                with Victim(self.trainer, run, restarts=RESTARTS) as child:
                    watch.new_process()
                    going = self._kill_until_it_falls(child, watch, tell)

    def _kill_until_it_falls(self, child: Victim, watch: Watch, tell: Callable[[str, int], None]) -> bool:
        """Kill ranks until all are killed at once (true: the run is to be gone on with), or the end is reached."""
        aim = self._aim()
        while True:
            code = child.exit_code()
            if watch.look():
                tell(watch.run.name, watch.step or watch.resumed or 0)
            now = time.monotonic()
            self._note_where_it_went_on(watch)
            if code == 0 or (watch.ended and now > (watch.finished_at or now) + LEAVING_S):
                return False
            if code is not None or now > watch.changed_at + max(PATIENCE_S, 10 * self.timing.silence_s):
                raise self._stuck(child, watch)
            if aim is None or not aim.reached(watch, now):
                time.sleep(POLL_S)
                continue
            target = child.kill_one_rank(self.draw) if self._spares_the_others() else None
            everything = target is None
            if everything:
                if not child.kill():
                    continue  # it was at its end
                target = "all" if self.trainer.ranks > 1 else "process"
            watch.look()
            kill = Kill(len(self.kills) + 1, watch.run.name, str(target), watch.moment, watch.step)
            self.kills.append(kill)
            if watch.ended:
                return False
            if everything:
                return True
            watch.new_process()
            aim = self._aim()

    def _aim(self) -> Aim | None:
        """Where the next kill goes: so spread that kills of one run cover it, and that it comes on between them."""
        if len(self.kills) >= self.wanted:
            return None
        if not self._aims:
            self._aims = self.draw.sample(AIMS, len(AIMS))
        moment, timing = self._aims.pop(), self.timing
        between_saves = timing.train_s * min(
            1.0, (self.config.checkpoint_every or self.config.steps) / self.config.steps
        )
        reach = max(between_saves, timing.train_s / self.wanted)
        delay = self.draw.uniform(0, timing.start_s if moment == START else 1.5 * reach)
        lag = self.draw.uniform(0, timing.moments_s.get(moment, 0.0))
        return Aim(moment, delay, lag, patience_s=max(2 * reach, timing.train_s / 4))

    def _spares_the_others(self) -> bool:
        """Whether the next kill is of one rank: every second one, in random order."""
        if self.trainer.ranks == 1:
            return False
        if not self._one_rank:
            self._one_rank = self.draw.sample((True, False), 2)
        return self._one_rank.pop()

    def _note_where_it_went_on(self, watch: Watch) -> None:
        if watch.first_step_at is not None:
            self.timing.start_s = min(self.timing.start_s, watch.first_step_at - watch.since)
        if watch.began:
            for kill in self.kills:
                if kill.run == watch.run.name and kill.resumed_from is None:
                    kill.resumed_from = watch.resumed or 0

    def _stuck(self, child: Victim, watch: Watch) -> BrokenPromise:
        seconds = time.monotonic() - watch.changed_at
        how = f"stood still for {seconds:.0f} s" if child.exit_code() is None else "did not go on"
        return BrokenPromise(f"{watch.run.name} {how} after kill {len(self.kills)}: {child.complaint()}")
