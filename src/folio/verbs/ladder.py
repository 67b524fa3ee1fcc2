"""``folio ladder``: from the slowest GPT-2 to the fastest, a change at a time, each measured."""

from __future__ import annotations

import time
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from pydantic import Field

from folio.config import Table
from folio.errors import ConfigError, Interrupted, UserError
from folio.verbs.action import Action, Outcome, Terminal

if TYPE_CHECKING:
    from folio.studies.ladder.results import Findings

MINUTES = {"cpu": 15.0, "cuda": 60.0, "mps": 30.0}


class LadderOptions(Table):
    """How far up, on what, and for how long."""

    device: str = "auto"
    """auto, cpu, cuda, mps: where the ladder leads to. On a GPU its bottom is on the CPU."""
    shape: str = "124m"
    """tiny, small or 124m: the model whose steps are timed; beside 124m a smaller one is trained for the losses."""
    rungs: tuple[str, ...] = ()
    """Which rungs to measure, with commas or spaces; those between are climbed all the same. Empty: all."""
    minutes: float | None = Field(default=None, gt=0)
    """About how long it may take: sequences, rounds and steps follow. Empty: 15 on a CPU, 60 on a GPU."""
    rounds: int = Field(default=0, ge=0)
    """Turns that each rung takes; ratios are medians over them. 0: 3 to 9, as many as the minutes allow."""
    steps: int = Field(default=0, ge=0)
    """Steps that each rung trains for its loss. 0: as many as the minutes allow."""
    seeds: int = Field(default=1, ge=1)
    """Trainings of each rung for its loss; the bottom and the tops are trained from three seeds at least."""
    text: str | None = None
    """Your own text: a file, a folder or a glob. Empty: Shakespeare's plays."""
    to: Path | None = None
    """The folder; one that was begun is gone on with. Empty: runs/ladder-SHAPE-DEVICE."""


def climb(options: LadderOptions, terminal: Terminal) -> Outcome:
    """Measure what is not measured yet, and write the figure, the table and the page."""
    from folio.locks import locked
    from folio.reports.ladder import verdict, write_ladder
    from folio.runtime import choose_device

    device = choose_device(options.device).type
    folder = options.to or Path("runs") / f"ladder-{options.shape}-{device}"
    begun = folder.exists()
    _check(options, device)
    with locked(folder / ".lock", wait=False) as alone:
        if not alone:
            raise UserError(
                f"another process is measuring '{folder}'", "Wait for it, or choose another folder with --to."
            )
        try:
            found = _measure(options, device, folder, terminal)
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped; what is finished is kept. Go on with the same command, or: {_command(options, folder)}"
            ) from None
        except UserError:
            if not begun:
                _remove_if_bare(folder)
            raise
        wrote = write_ladder(found, folder)
    _show(found, terminal)
    for row in dict.fromkeys((found.top_of_speed.name, found.top.name)):
        end = found.row(row)
        assert end.to_bottom is not None
        terminal.print(f"{end.name:<10} {end.to_bottom.middle:.2f} times as fast as the bottom; {verdict(end)}")
    return Outcome(found.as_dict(), wrote=wrote)


def _check(options: LadderOptions, device: str) -> None:
    """Refuse what can be seen to be wrong before anything is written."""
    from folio.studies.ladder.machine import Machine
    from folio.studies.ladder.rungs import BOTTOM, steps_on
    from folio.studies.ladder.shapes import shape_of

    shape_of(options.shape, device)
    asked = _asked(options)
    steps_on(Machine(device), asked)
    if asked and set(asked) == {BOTTOM}:
        raise ConfigError(f"--rungs {BOTTOM} alone leaves nothing to compare it with", "Name another rung too.")


def _asked(options: LadderOptions) -> list[str]:
    return [name for given in options.rungs for name in given.split(",") if name]


def _measure(options: LadderOptions, device: str, path: Path, terminal: Terminal) -> Findings:
    from folio.artifacts import environment
    from folio.studies.ladder.folder import LadderFolder
    from folio.studies.ladder.losses import measure_losses
    from folio.studies.ladder.machine import machine_of
    from folio.studies.ladder.measuring import WINDOWS, Measuring, machine_here, refuse_another
    from folio.studies.ladder.planning import planned, planned_steps
    from folio.studies.ladder.results import find
    from folio.studies.ladder.rungs import steps_on
    from folio.studies.ladder.shapes import shape_of
    from folio.studies.ladder.speed import measure_speed
    from folio.studies.ladder.texts import write_text

    begun = time.monotonic()
    shape, folder = shape_of(options.shape, device), LadderFolder(path)
    minutes = options.minutes or MINUTES[device]
    identity = {"device": device, "shape": options.shape, "minutes": minutes, "text": options.text}
    identity |= {"rounds": options.rounds, "steps": options.steps, "seeds": options.seeds}
    plan = folder.begin(identity)
    now = machine_here(device)
    if "machine" in plan:
        refuse_another(machine_of(plan["machine"]), now)
    else:
        plan["text"] = write_text(path, options.text, {shape.speed.vocabulary, shape.learning.vocabulary})
        plan |= {"machine": now.as_dict(), "environment": environment()}
        folder.write_plan(plan)
    machine = machine_of(plan["machine"])
    steps = steps_on(machine, _asked(options))
    if all(step.refused for step in steps[1:]):
        reasons = "; ".join(f"{step.name}: {step.refused}" for step in steps[1:])
        raise ConfigError(f"none of the rungs has a place on this machine ({reasons})", "Name others, or none for all.")
    with terminal.progress("ladder", 100, "%") as bar:

        def tell(phase: str, done: int, total: int, words: str) -> None:
            of_speed = {"timing": 0.0, "speed": done / total, "losses": 1.0}[phase]
            of_losses = done / total if phase == "losses" else 0.0
            bar.update(round(50 * (of_speed + of_losses)), {"now": f"{phase}: {words}"})

        work = Measuring(folder, shape, machine, steps, tell)
        speed = planned(work, plan, minutes, options.rounds, options.steps, options.seeds, begun)
        measure_speed(work, speed)
        many = planned_steps(work, plan, minutes, options.steps, options.seeds)
        measure_losses(work, many, options.seeds)
    facts = {
        **identity, "corpus": plan["text"]["corpus"], "speed_shape": shape.speed.words(), "sequences": speed.sequences,
        "rounds": speed.rounds, "together": speed.together, "learning_shape": shape.learning.words(), "steps": many,
        "learning_tokens_per_step": shape.learning.sequences[0] * shape.learning.block_size, "windows": WINDOWS,
        "same_shape": shape.speed == shape.learning, "took_s": folder.spent_s() + plan["timing_s"],
        "machine": machine.as_dict(), "environment": plan["environment"], "text_facts": plan["text"],
    }  # fmt: skip
    return find(work, options.seeds, facts)


def _show(found: Findings, terminal: Terminal) -> None:
    facts, rows = found.facts, list[tuple[Any, ...]]()
    for row in found.rows:
        loss, timed = row.loss, row.equal_time
        rows.append(
            (
                row.name,
                row.reason if row.tokens_per_s is None else "" if row.state == "kept" else "not kept",
                row.tokens_per_s,
                row.to_below and round(row.to_below.middle, 2),
                row.to_bottom and round(row.to_bottom.middle, 2),
                row.peak_bytes and round(row.peak_bytes / 1e9, 2),
                None if row.mfu is None else f"{row.mfu:.0%}",
                None if loss is None else f"{loss.nats:.3f} ± {loss.standard_error:.3f}",
                None if timed is None else f"{timed.nats:.3f} at {timed.steps:,}",
            )
        )
    terminal.table(
        ("rung", "", "tokens/s", "x below", "x plain", "peak GB", "MFU", "equal steps", "equal time"),
        rows,
        title=f"{facts['speed_shape']} on {facts['machine']['name']}; losses: {facts['learning_shape']}",
    )


def _command(options: LadderOptions, folder: Path) -> str:
    given = {key: value for key, value in options if key in options.model_fields_set and key != "to"}
    words = [
        f"--{key} {quote(','.join(value) if isinstance(value, tuple) else str(value))}" for key, value in given.items()
    ]
    return " ".join(["folio ladder", *words, f"--to {quote(str(folder))}"])


def _remove_if_bare(folder: Path) -> None:
    """Take away a folder that holds no measurement yet."""
    import shutil

    from folio.studies.ladder.folder import MEASURED

    if folder.exists() and not (folder / MEASURED).exists():
        shutil.rmtree(folder)


ACTIONS = {
    "": Action(
        LadderOptions,
        climb,
        "From the slowest GPT-2 to the fastest, each change measured for speed and for what it learns.",
        examples=(
            "folio ladder",
            "folio ladder --shape small --minutes 5",
            "folio ladder --rungs bf16,pages,chunked --rounds 7 --to runs/three",
        ),
    )
}
