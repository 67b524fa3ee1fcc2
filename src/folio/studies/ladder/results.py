"""What a ladder found: a row for each rung, and the few numbers that it comes to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean, median, stdev, variance
from typing import Any, Literal

from folio.model.accounting import training_flops
from folio.studies.ladder.losses import all_losses, ratio_to_bottom
from folio.studies.ladder.measuring import Measuring
from folio.studies.ladder.rungs import BOTTOM, Kind, Step, in_speed_part

State = Literal["kept", "taken out", "not here", "failed"]


@dataclass(frozen=True)
class Spread:
    """A median over rounds, with the least and the most."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True)
class Loss:
    """Mean nats per token on the held-out windows and the difference from the bottom's, each with its standard error.

    Means are over windows and over all trainings of a rung. An error holds that of the mean over windows (which are the
    same for every rung, so that of a difference is paired) and what a seed alone changes: the spread of seeds, pooled
    over the rungs that were trained from several.
    """

    nats: float
    standard_error: float
    steps: int
    above_bottom: float = 0.0
    above_bottom_error: float = 0.0
    seeds: int = 1


@dataclass(frozen=True)
class Row:
    """One rung. What is None was not measured; ``reason`` says why."""

    name: str
    kind: Kind
    words: str
    state: State
    reason: str = ""
    tokens_per_s: float | None = None
    """The bottom's median over all rounds of the ladder, times ``to_bottom``: a machine's drift cancels."""
    to_below: Spread | None = None
    to_bottom: Spread | None = None
    on: str = ""
    """The rung that ``to_below`` is relative to."""
    seconds_per_step: float | None = None
    tokens_per_step: int | None = None
    peak_bytes: int | None = None
    mfu: float | None = None
    loss: Loss | None = None
    equal_time: Loss | None = None
    speed_part: bool = True
    """Below the rungs that change what a step learns."""


@dataclass(frozen=True)
class Findings:
    """All rows, bottom first, and what they were measured with."""

    rows: list[Row]
    facts: dict[str, Any] = field(default_factory=dict)
    """Shape, machine, rounds, steps, seeds, text, environment."""

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    @property
    def climbed(self) -> list[Row]:
        """The rungs that are measured and kept, the bottom first."""
        return [row for row in self.rows if row.state == "kept" and row.to_bottom is not None]

    @property
    def top_of_speed(self) -> Row:
        """The highest kept rung that leaves the model GPT-2's, its optimizer AdamW, and a step as large."""
        return [row for row in self.climbed if row.speed_part][-1]

    @property
    def top(self) -> Row:
        return self.climbed[-1]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: facts, rungs, and what they come to."""
        return {**self.facts, "rungs": [asdict(row) for row in self.rows], "summary": self.summary()}

    def summary(self) -> dict[str, Any]:
        """The tops over the bottom: how many times as fast, and what was learned in equal steps and equal time."""
        ends = {"top_of_speed": self.top_of_speed, "top": self.top}
        return {
            name: {
                "rung": row.name,
                "times_the_bottom": row.to_bottom.middle if row.to_bottom else None,
                "equal_steps_loss": asdict(row.loss) if row.loss else None,
                "equal_time_loss": asdict(row.equal_time) if row.equal_time else None,
                "learning_harmed": None if row.loss is None else harmed(row.loss),
            }
            for name, row in ends.items()
        }


def harmed(loss: Loss) -> bool:
    """Whether a loss is above the bottom's by more than two of its standard errors."""
    return loss.above_bottom > 2 * loss.above_bottom_error


def find(work: Measuring, seeds: int, facts: Mapping[str, Any]) -> Findings:
    """Rows from all finished measurements."""
    sound = work.sound()
    bottoms = [second for step in sound[1:] for second in (work.timed(step) or {})["bottom"]]
    base = 1 / median(bottoms or (work.timed(work.steps[0]) or {})["self"])
    trained = {step.name: all_losses(work, step, seeds) for step in sound}
    return Findings([_row(work, step, base, trained) for step in work.steps], dict(facts))


def _row(work: Measuring, step: Step, base: float, trained: Mapping[str, Sequence[Mapping[str, Any]]]) -> Row:
    rung, timed = step.rung, work.timed(step) if not step.refused else None
    told: dict[str, Any] = {
        "name": rung.name,
        "kind": rung.kind,
        "words": rung.words,
        "speed_part": in_speed_part(rung.name),
    }
    if step.refused:
        return Row(**told, state="not here", reason=step.refused)
    if timed is None or "failed" in timed:
        return Row(**told, state="failed", reason=(timed or {}).get("failed", "not measured yet"))
    ratio = ratio_to_bottom(timed)
    reason = "" if step.kept else "measured, and taken out again: the rungs above do not stand on it"
    config = work.shape.speed.config(_vocabulary(work), step.settings)
    flops = training_flops(config, work.shape.speed.block_size)
    peak = (work.machine.peaks or {}).get(step.settings.device, math.nan) * (
        step.settings.ranks if step.settings.device != "cpu" else 1
    )
    return Row(
        **told,
        state="kept" if step.kept else "taken out",
        reason=reason,
        tokens_per_s=base * ratio,
        to_below=_spread(timed["below"], timed["self"]) if "below" in timed else None,
        to_bottom=_spread(timed["bottom"], timed["self"]) if "bottom" in timed else Spread(1.0, 1.0, 1.0),
        on=timed.get("on", ""),
        seconds_per_step=timed["tokens"] * median(timed["self"]),
        tokens_per_step=timed["tokens"],
        peak_bytes=timed["peak_bytes"],
        mfu=base * ratio * flops / peak if peak == peak else None,
        loss=_loss(trained, step.name, "nats", "steps"),
        equal_time=_loss(trained, step.name, "equal_time_nats", "equal_time_steps"),
    )


def _vocabulary(work: Measuring) -> int:
    from folio.studies.ladder.texts import read_text

    return read_text(work.folder.path, work.shape.speed.vocabulary).vocab_size


def _spread(before: Sequence[float], after: Sequence[float]) -> Spread:
    """How many times as fast ``after`` is, round by round."""
    ratios = [b / a for b, a in zip(before, after, strict=False)]
    return Spread(median(ratios), min(ratios), max(ratios))


def _loss(trained: Mapping[str, Sequence[Mapping[str, Any]]], name: str, nats: str, steps: str) -> Loss | None:
    losses, bottom = trained.get(name, []), trained.get(BOTTOM, [])
    if not losses:
        return None
    spread = _spread_of_seeds([[mean(one[nats]) for one in many] for many in trained.values()])
    own = _over_seeds(losses, nats)
    error = math.hypot(_error(own), spread / math.sqrt(len(losses)))
    if name == BOTTOM:
        return Loss(mean(own), error, losses[0][steps], seeds=len(losses))
    differences = [a - b for a, b in zip(own, _over_seeds(bottom, nats), strict=True)] if bottom else [math.nan]
    chance = spread * math.sqrt(1 / len(losses) + 1 / max(1, len(bottom)))
    of_difference = math.hypot(_error(differences), chance)
    return Loss(mean(own), error, losses[0][steps], mean(differences), of_difference, seeds=len(losses))


def _over_seeds(losses: Sequence[Mapping[str, Any]], nats: str) -> list[float]:
    """The loss of each window, a mean over seeds."""
    return [mean(of_window) for of_window in zip(*(one[nats] for one in losses), strict=True)]


def _spread_of_seeds(means: Sequence[Sequence[float]]) -> float:
    """The standard deviation over seeds, pooled over rungs."""
    several = [one for one in means if len(one) > 1]
    freedom = sum(len(one) - 1 for one in several)
    return math.sqrt(sum((len(one) - 1) * variance(one) for one in several) / freedom) if freedom else math.nan


def _error(values: Sequence[float]) -> float:
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
