"""Ladders made of made-up measurements, and a small text on disk for real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from folio.studies.ladder.folder import LadderFolder, loss_name, time_name
from folio.studies.ladder.losses import steps_in_equal_time, trainings_of
from folio.studies.ladder.machine import Machine
from folio.studies.ladder.measuring import WINDOWS, Measuring
from folio.studies.ladder.results import Findings, find
from folio.studies.ladder.rungs import Step, steps_on
from folio.studies.ladder.shapes import shape_of
from folio.studies.ladder.texts import write_text

CPU = Machine("cpu", "a CPU", threads=2, bf16=True, onednn=True, pages=True, peaks={"cpu": 1e12}, memory=10**10)
LINES = ["the cook stirs the egg in the pan", "a man skis down the hill", "the snow is blue", "who goes there"]


def write_plays(path: Path) -> Path:
    """A text of some ten thousand characters with little to learn in it."""
    order = np.random.default_rng(0).integers(0, len(LINES), 500)
    path.write_text("".join(f"{LINES[i]}.\n" for i in order), encoding="utf-8")
    return path


def write_ids(folder: Path) -> None:
    write_text(folder, str(write_plays(folder / "plays.txt")), {"char"})


def speed_of(number: int) -> float:
    """Tokens/s of the rung of that number: a little more each."""
    return 1000.0 * 1.1**number


def pretend(folder: Path, machine: Machine = CPU, seeds: int = 1, failing: tuple[str, ...] = ()) -> Measuring:
    """A ladder all of whose measurements are made up: rung i is 1.1**i times as fast as the bottom.

    In round 1 the whole machine was at half its speed. Losses fall by 0.01 a rung, and by 0.5 up to equal time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_ids(folder)
    work = Measuring(LadderFolder(folder), shape_of("tiny", machine.device), machine, steps_on(machine), _quiet)
    below: tuple[Step, int] = (work.measured[0], 0)
    for number, step in enumerate(work.measured):
        turns = {"self": _turns(number), "below": _turns(below[1]), "bottom": _turns(0)}
        facts = {"tokens": 512, "peak_bytes": 10**9 - number, "took_s": 1.0}
        measured = {**facts, **turns, "on": below[0].name} if number else {**facts, "self": turns["self"]}
        if step.name in failing:
            measured = {"failed": "out of memory", "took_s": 1.0}
        elif step.kept:
            below = (step, number)
        work.folder.write(time_name(step.name), measured)
    in_equal_time = steps_in_equal_time(work, 100)
    noise = np.random.default_rng(0).normal(0, 0.1, WINDOWS)
    for number, step in enumerate(work.sound()):
        for seed in range(trainings_of(step, work.sound(), seeds)):
            nats = 2.5 - 0.01 * number + 0.001 * seed + noise
            ends: dict[str, Any] = {"steps": 100, "equal_time_steps": in_equal_time[step.name], "took_s": 1.0}
            worse = 0.5 * (1 - in_equal_time[step.name] / 100)
            losses = {"nats": nats.tolist(), "equal_time_nats": (nats + worse).tolist()}
            work.folder.write(loss_name(step.name, seed), {**ends, **losses})
    return work


def findings(work: Measuring, seeds: int = 1) -> Findings:
    facts = {
        "shape": "tiny", "device": work.machine.device, "corpus": "plays", "speed_shape": "2 layers", "sequences": 8,
        "rounds": 3, "together": 2, "learning_shape": "2 layers", "steps": 100, "learning_tokens_per_step": 512,
        "windows": WINDOWS, "same_shape": True, "seeds": seeds, "machine": work.machine.as_dict(),
    }  # fmt: skip
    return find(work, seeds, facts)


def _turns(number: int) -> list[float]:
    return [slow / speed_of(number) for slow in (1.0, 2.0, 1.0)]


def _quiet(phase: str, done: int, total: int, words: str) -> None:
    """Tells nobody."""
