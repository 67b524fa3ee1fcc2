"""A training run that is to be killed: started as a process of its own, watched from outside, ended at any moment.

Nothing here asks the process anything. What it is doing is read from what it leaves on disk, as it would be after a
power cut: the lines of ``metrics.jsonl``, and the folders of a save in progress.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from folio.errors import UserError
from folio.training.config import TrainConfig
from folio.training.metrics import METRICS

START, FIRST, STEP, VALIDATION, SAMPLE, SAVE, END = (
    *("start-up", "first step", "step", "validation", "sample", "save"),
    "after the last step",
)
"""The moments of a process that can be told apart from outside. A compiled model is compiled in the first step."""


@dataclass(frozen=True)
class Trainer:
    """How every process of one proof is started: the same recipe, ranks and environment, so that only kills differ."""

    recipe: Path
    ranks: int
    environment: Mapping[str, str]

    def command(self, run: Path, *, restarts: int) -> list[str]:
        """Begin ``run``, or go on with it if it was begun; torchrun restarts a dead rank up to ``restarts`` times."""
        begun = (run / "config.json").exists()
        what = ["--resume", str(run)] if begun else [str(self.recipe), "--out", str(run)]
        train = ["-m", "folio", "train", *what, "--json"]
        if self.ranks == 1:
            return [sys.executable, *train]
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(self.ranks)]
        return [sys.executable, *torchrun, "--max-restarts", str(restarts), *train]


class Victim:
    """One started process with all its descendants. Leaving the ``with`` block ends every one of them."""

    def __init__(self, trainer: Trainer, run: Path, *, restarts: int = 0) -> None:
        self.trainer, self.log = trainer, run.with_name(f"{run.name}.log")
        self.answer = run.with_name(f"{run.name}.json")
        with open(self.answer, "wb") as out, open(self.log, "ab") as err:
            self.process = subprocess.Popen(
                trainer.command(run, restarts=restarts),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=dict(trainer.environment),
                start_new_session=True,  # a Ctrl-C is for us alone: we say how the children end
            )

    def __enter__(self) -> Victim:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def exit_code(self) -> int | None:
        """None while it lives."""
        return self.process.poll()

    def kill(self) -> bool:
        """SIGKILL the process and all that descends from it; whether it was still alive."""
        if self.process.poll() is not None:
            return False
        self.process.send_signal(signal.SIGSTOP)  # what starts others must not start more while they are counted
        for pid in [*descendants(self.process.pid), self.process.pid]:
            _send_kill(pid)
        return self.process.wait() == -signal.SIGKILL

    def kill_one_rank(self, draw: random.Random) -> str | None:
        """SIGKILL one rank under torchrun, which starts all of them again; its name, or None if there are none yet."""
        listed = processes()
        mine = sorted(pid for pid, (parent, words) in listed.items() if parent == self.process.pid and "train" in words)
        if self.process.poll() is not None or len(mine) < self.trainer.ranks:
            return None
        rank = draw.randrange(self.trainer.ranks)
        return f"rank {rank}" if _send_kill(mine[rank]) else None

    def complaint(self) -> UserError:
        """What the process said of its trouble: its own error, or the last lines that it printed."""
        for line in self.answer.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):
                said = json.loads(line)
                return UserError(said["error"], said.get("remedy", ""))
        told = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
        code = self.process.returncode
        what = "it has said nothing of why" if code is None else f"it ended with exit code {code}"
        return UserError(what, "\n       ".join(told))


def _send_kill(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def descendants(pid: int) -> list[int]:
    """The processes that ``pid`` started, those that they started, and so on."""
    listed, found = processes(), [pid]
    for parent in found:
        found += [child for child, (above, _) in listed.items() if above == parent]
    return found[1:]


def processes() -> dict[int, tuple[int, list[str]]]:
    """Every process of this machine: its parent and its command line, from /proc or, where there is none, ``ps``."""
    if not Path("/proc/self/stat").exists():
        listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,command="], capture_output=True, text=True, check=True)
        rows = [line.split() for line in listing.stdout.splitlines()]
        return {int(pid): (int(parent), words) for pid, parent, *words in rows}
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may end while we read
            parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
            words = (folder / "cmdline").read_text(errors="replace").split("\0")
            found[int(folder.name)] = (int(parent), words)
    return found


class Watch:
    """What a run is doing, followed from its folder over as many processes as it takes.

    ``step`` is the last one this process told of, ``resumed`` the one it went on from; times are of a monotonic clock.
    """

    def __init__(self, run: Path, config: TrainConfig) -> None:
        self.run, self.config = run, config
        self.finished_at: float | None = None
        self.longest_silence_s = 0.0
        self.spells: dict[str, list[float]] = defaultdict(list)
        """How long each moment lasted, every time it was seen to end, in seconds."""
        self._read = 0
        self.new_process()

    def new_process(self) -> None:
        """Begin anew: the process was started, or torchrun starts it again."""
        self.since = self.changed_at = self._moment_since = time.monotonic()
        self.step: int | None = None
        self.resumed: int | None = None
        self.first_step_at: float | None = None
        self.moment = START
        self._kind = ""
        self._left_over = set(self._hidden())
        self.began = False
        self._resumes = (self.run / METRICS).exists()

    def look(self) -> bool:
        """Read what is new on disk; whether anything was."""
        now = time.monotonic()
        lines = list(self._new_lines())
        for line in lines:
            self._take(line, now)
        self.began = self.began or (not self._resumes and (self.run / METRICS).exists())
        moment = self._moment()
        if lines or moment != self.moment:
            self.longest_silence_s = max(self.longest_silence_s, now - self.changed_at)
            self.changed_at = now
        if moment != self.moment:
            self.spells[self.moment].append(now - self._moment_since)
            self.moment, self._moment_since = moment, now
        return self.changed_at == now

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do: the last step was told of, and its checkpoint is whole."""
        return self.finished_at is not None and (self.run / "checkpoints" / f"step-{self.config.steps:08d}").exists()

    def _take(self, line: dict[str, Any], now: float) -> None:
        event = line.get("event")
        if event == "resumed":
            self.began, self.resumed, self.step, self.finished_at = True, line["step"], None, None
        if event == "finished":
            self.finished_at = now
        if not self.began and self._resumes:
            return  # told by a rank that outlived another for a moment
        if line["kind"] != "event":
            self._kind = line["kind"]
        if line["kind"] == "train":
            self.step = line["step"]
            self.first_step_at = self.first_step_at or now

    def _moment(self) -> str:
        if not self.began:
            return START
        if set(self._hidden()) - self._left_over:
            return SAVE
        if self.finished_at is not None:
            return END
        if self.step is None:
            return FIRST
        config, step = self.config, self.step
        if self._kind == "train" and _due(step, config.validate_every, config.steps):
            return VALIDATION
        if self._kind != "sample" and config.sample_every and _due(step, config.sample_every, config.steps):
            return SAMPLE
        return STEP

    def _hidden(self) -> Iterator[str]:
        """Checkpoints that are being written, exchanged or cleared away."""
        with contextlib.suppress(OSError):
            yield from (name for name in os.listdir(self.run / "checkpoints") if name.startswith(".step-"))

    def _new_lines(self) -> Iterator[dict[str, Any]]:
        try:
            with open(self.run / METRICS, "rb") as file:
                file.seek(self._read)
                new = file.read()
        except FileNotFoundError:
            return
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        yield from map(json.loads, whole.splitlines())


def _due(step: int, every: int, last: int) -> bool:
    return step == last or bool(every and step % every == 0)
