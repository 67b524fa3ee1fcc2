"""Whether a run began to learn its examples by heart: train against validation over epochs, and where it turned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from folio.evaluation.estimates import Z95

LossKey = Literal["nats_per_token", "nats_per_pair"]
Outcome = Literal["turned", "cannot tell", "not turned", "never better"]
HEADER = ("epoch", "step", "train", "validation", "± s.e.", "validation − train", "")
"""The columns of :func:`epoch_rows`."""


@dataclass(frozen=True, slots=True)
class EpochLoss:
    """One validation: what was lost on held-out examples, and on as many training examples in evaluation mode.

    Not a number is what was not measured. ``epoch`` counts passes over the training examples, 0 the base as it came.
    """

    step: int
    epoch: float
    validation: float
    train: float = math.nan
    standard_error: float = math.nan
    """Of ``validation``, over the examples."""
    accuracy: float = math.nan
    """Of preferences: the share of held-out pairs in which the chosen answer is preferred."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a run's validations say of overfitting: the ``outcome``, its ``words``, the best and the last of them."""

    outcome: Outcome
    words: str
    best: EpochLoss
    last: EpochLoss


def epoch_losses(lines: Iterable[Mapping[str, Any]], loss: LossKey = "nats_per_token") -> list[EpochLoss]:
    """The validations among a run's lines of metrics, in their order; those without epoch or loss are left out."""
    found = []
    for line in lines:
        if line["kind"] != "validation":
            continue
        one = EpochLoss(
            step=int(line["step"]),
            epoch=_number(line, "epoch"),
            validation=_number(line, loss),
            train=_number(line, f"train_{loss}"),
            standard_error=_number(line, "standard_error_nats"),
            accuracy=_number(line, "accuracy"),
        )
        if math.isfinite(one.epoch) and math.isfinite(one.validation):
            found.append(one)
    return found


def best_of(losses: Sequence[EpochLoss]) -> EpochLoss:
    """The validation with the lowest loss, the earlier of two equal ones."""
    return min(losses, key=lambda one: one.validation)


def turn_of(losses: Sequence[EpochLoss]) -> Turn | None:
    """Whether validation turned: is higher at the end than at its best, by more than its error. None of fewer than two.

    The best is the lowest of several that each have luck in them, so a rise after it is to be expected to some degree.
    It counts where it exceeds 1.96 times the error that a difference of two losses measured on other examples each
    would have. Here both are measured on the same examples, so that error is too large rather than too small: a rise
    beyond it is sure, one below it may be real (the losses of single examples, which would tell, are not at hand).
    """
    if len(losses) < 2:
        return None
    best, last = best_of(losses), losses[-1]
    rise, error = last.validation - best.validation, math.hypot(best.standard_error, last.standard_error)
    if best is last:
        return Turn("not turned", _not_turned(losses), best, last)
    rose = f"validation rose from {best.validation:.4g} to {last.validation:.4g}{_meanwhile(best, last)}"
    if rise <= Z95 * error:
        words = (
            f"best at epoch {best.epoch:.3g}; whether it turned there cannot be told: {rose}, which is within "
            f"{Z95 * error:.2g}, as much as chance may do with these standard errors"
        )
        return Turn("cannot tell", words, best, last)
    known = "" if math.isfinite(error) else " (the losses have no standard errors, so chance is not ruled out)"
    if best.step == 0:
        return Turn("never better", f"never better than the base: {rose}{known}", best, last)
    return Turn("turned", f"turned after epoch {best.epoch:.3g}: {rose}{known}", best, last)


def _meanwhile(best: EpochLoss, last: EpochLoss) -> str:
    """What the training loss did between the two."""
    if math.isnan(best.train) or math.isnan(last.train):
        return ""
    between = f"from {best.train:.4g} to {last.train:.4g}"
    if last.train <= best.train:
        return f" while training fell {between}"
    return f", and training rose too, {between}: that is no overfitting; a lower learning rate may help"


def _not_turned(losses: Sequence[EpochLoss]) -> str:
    before, last = losses[-2], losses[-1]
    fall, error = before.validation - last.validation, math.hypot(before.standard_error, last.standard_error)
    fell = f"validation fell from {losses[0].validation:.4g} to {last.validation:.4g}"
    recent = f"from {before.validation:.4g} since epoch {before.epoch:.3g}"
    if fall <= Z95 * error:
        return f"had not turned: {fell}, at the end hardly any more ({recent}, within what chance could do)"
    return f"had not turned: {fell}, and still did at the end ({recent}): train longer"


def epoch_rows(losses: Sequence[EpochLoss]) -> list[list[str | int | float | None]]:
    """A row of :data:`HEADER` for each validation: the base and the best are named, what was not measured is None."""
    best = best_of(losses) if losses else None
    rows: list[list[str | int | float | None]] = []
    for one in losses:
        names = ["base"] * (one.step == 0) + ["best"] * (one is best)
        numbers = (one.train, one.validation, one.standard_error, one.validation - one.train)
        rows.append([round(one.epoch, 3), one.step, *map(_or_none, numbers), ", ".join(names)])
    return rows


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(line: Mapping[str, Any], key: str) -> float:
    value = line.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
