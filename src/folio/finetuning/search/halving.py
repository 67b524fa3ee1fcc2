"""Successive halving (Jamieson and Talwalkar 2016): all settings train a little, the better ones go on for longer.

It knows nothing of models: what trains is a :class:`Trial`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from folio.errors import Diverged
from folio.finetuning.search.settings import Setting


@dataclass(frozen=True)
class Loss:
    """A validation loss in nats per unit, its standard error, and the loss on as many training examples."""

    nats: float
    standard_error: float | None = None
    train_nats: float | None = None


class Trial(Protocol):
    """One setting in training: it begins as every other does, or where a snapshot was taken."""

    def train_to(self, step: int) -> None:
        """Train until ``step`` steps are done; :class:`Diverged` if it does not get there."""
        ...

    def loss(self) -> Loss:
        """The validation loss, on the same examples for every setting."""
        ...

    def snapshot(self) -> Any | None:
        """A copy of all that training on needs; None where there is no room for one."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Go back to a snapshot of the same setting."""
        ...


@dataclass(frozen=True)
class Rung:
    """A level of the search: every setting on it trains to ``share`` of its longest budget, then ``keep`` go on."""

    number: int
    share: Fraction
    keep: int

    def steps(self, budget: int) -> int:
        """Steps of a setting whose longest budget is ``budget``."""
        return math.ceil(self.share * budget)


@dataclass(frozen=True)
class Result:
    """A setting at the end of a rung: after ``step`` steps, taking ``seconds``; ``lost`` says why it has no loss."""

    setting: int
    rung: int
    step: int
    loss: Loss
    seconds: float
    lost: str = ""


def rungs_of(count: int, shortest: int, reduction: int) -> list[Rung]:
    """The rungs for ``count`` settings, the ``shortest`` of whose longest budgets is given in steps.

    Each rung keeps one of ``reduction``, rounded up, and its budget is ``reduction`` times that of the one before. The
    last has the whole budget and at most ``reduction`` settings, but for a budget that is too short for so many rungs
    of at least a step.
    """
    if reduction == 1:
        return [Rung(1, Fraction(1), 1)]
    counts = [count]
    while counts[-1] > reduction and reduction ** len(counts) <= shortest:
        counts.append(-(-counts[-1] // reduction))
    last = len(counts) - 1
    return [
        Rung(index + 1, Fraction(1, reduction ** (last - index)), counts[index + 1] if index < last else 1)
        for index in range(len(counts))
    ]


def ranked(settings: Iterable[Setting], results: Iterable[Result]) -> list[Setting]:
    """``settings`` from best to worst by their ``results`` on one rung, those without a loss left out.

    The lowest validation loss is the best; of equal ones the lower learning rate, then the earlier setting.
    """
    nats = {one.setting: one.loss.nats for one in results if not one.lost}
    found = [one for one in settings if one.number in nats]
    return sorted(found, key=lambda one: (nats[one.number], one.rate, one.number))


def halve(
    settings: Sequence[Setting],
    budgets: Sequence[int],
    reduction: int,
    open_trial: Callable[[Setting], Trial],
    known: Iterable[Result] = (),
    tell: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Every result of the search, in the order in which they are found; ``tell`` is given each new one at once.

    ``budgets`` are the steps of each setting's longest trial. What is ``known`` from an earlier sitting is not trained
    again. One trial is open at a time; those that may go on wait as snapshots, or, without one, are trained again from
    their start, which gives the same. It ends early when no more than one setting is left.
    """
    found = {(one.rung, one.setting): one for one in known}
    budget_of = {setting.number: budget for setting, budget in zip(settings, budgets, strict=True)}
    alive, waiting = list(settings), dict[int, Any]()
    rungs = rungs_of(len(settings), min(budgets), reduction)
    for rung in rungs:
        if len(alive) < 2 and rung.number > 1:
            break
        here: list[Result] = []
        for setting in alive:
            snapshot = waiting.pop(setting.number, None)
            result = found.get((rung.number, setting.number))
            if result is None:
                trial = open_trial(setting)
                if snapshot is not None:
                    trial.restore(snapshot)
                result = _tried(trial, setting, rung, rung.steps(budget_of[setting.number]))
                found[rung.number, setting.number] = result
                tell(result)
                ahead = [one.number for one in ranked(alive, [*here, result])[: rung.keep]]
                if rung is not rungs[-1] and setting.number in ahead:
                    waiting[setting.number] = trial.snapshot()
                    behind = {one.setting for one in here if one.setting not in ahead}
                    waiting = {number: one for number, one in waiting.items() if number not in behind}
                del trial, snapshot
            here.append(result)
        alive = ranked(alive, here)[: rung.keep]
    return list(found.values())


def _tried(trial: Trial, setting: Setting, rung: Rung, step: int) -> Result:
    began = time.perf_counter()
    try:
        trial.train_to(step)
        loss, lost = trial.loss(), ""
        if not math.isfinite(loss.nats):
            loss, lost = Loss(math.nan), f"the validation loss became {loss.nats}"
    except Diverged as error:
        loss, lost = Loss(math.nan), error.problem
    return Result(setting.number, rung.number, step, loss, time.perf_counter() - began, lost)
