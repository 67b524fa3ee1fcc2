"""Whether a run began to learn its examples by heart: train against validation over epochs, and where it turned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from folio.evaluation.estimates import Z95, ratio
from folio.evaluation.significance import student_quantile

LossKey = Literal["nats_per_token", "nats_per_pair"]
Outcome = Literal["turned", "cannot tell", "not turned", "never better"]


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
    each: tuple[tuple[float, float], ...] = field(default=(), repr=False)
    """Nats and tokens of each held-out example, in one order for a whole run; empty where they were not kept."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a run's validations say of overfitting: the ``outcome``, its ``words``, the best and the last of them."""

    outcome: Outcome
    words: str
    best: EpochLoss
    last: EpochLoss


@dataclass(frozen=True, slots=True)
class _Reach:
    """How far chance may put two validations apart, in nats, and by which ``examples``; None: not paired."""

    nats: float
    examples: int | None

    @property
    def words(self) -> str:
        how = f"paired over the same {self.examples:,} examples" if self.examples else "by the two errors, not paired"
        return f"the {self.nats:.2g} that chance could do ({how})"

    @property
    def doubt(self) -> str:
        return "" if math.isfinite(self.nats) else " (the losses have no standard errors, so chance is not ruled out)"


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
            each=_each(line),
        )
        if math.isfinite(one.epoch) and math.isfinite(one.validation):
            found.append(one)
    return found


def best_of(losses: Sequence[EpochLoss]) -> EpochLoss:
    """The validation with the lowest loss, the earlier of two equal ones."""
    return min(losses, key=lambda one: one.validation)


def turn_of(losses: Sequence[EpochLoss]) -> Turn | None:
    """Whether validation turned: is higher at the end than at its best, by more than its error. None of fewer than two.

    Both are measured on the same examples. Where the losses of each are known, the error is that of their paired
    difference, with Student's t; and as the best is the luckiest of several, the level of 5 % is shared out over as
    many comparisons as there are validations before the last (Bonferroni). Elsewhere the two standard errors are taken
    as those of other examples, which is too large an error rather than too small a one: a rise beyond it is sure, one
    below it may be real.
    """
    if len(losses) < 2:
        return None
    best, last = best_of(losses), losses[-1]
    if best is last:
        return Turn("not turned", _not_turned(losses), best, last)
    reach, meanwhile = _reach(best, last, len(losses) - 1), _meanwhile(best, last)
    of_base, rise = best.step == 0, last.validation - best.validation
    best_at, rose = (
        f"at epoch {best.epoch:.3g}",
        "rose from {} to {}".format(*_written(best.validation, last.validation)),
    )
    if not rise:
        words = f"validation was lowest {best_at} and is the same at the end, {best.validation:.4g}"
        return Turn("cannot tell", words, best, last)
    if rise <= reach.nats:
        lowest, question = ("before training", "got worse") if of_base else (best_at, "turned there")
        start = f"validation was lowest {lowest}, and whether it {question} cannot be told"
        return Turn("cannot tell", f"{start}: it {rose}, within {reach.words}{meanwhile}", best, last)
    beyond = f"{rose}, beyond {reach.words}" if math.isfinite(reach.nats) else f"{rose}{reach.doubt}"
    advice = ": that is no overfitting; a lower learning rate may help" * (last.train > best.train)
    what = "was never better than the base" if of_base else f"turned after epoch {best.epoch:.3g}"
    words = f"validation {what}: it {beyond}{meanwhile}{advice}"
    return Turn("never better" if of_base else "turned", words, best, last)


def _reach(one: EpochLoss, other: EpochLoss, comparisons: int = 1) -> _Reach:
    """Half the 95 % interval of the difference of two validations, which is one of so many ``comparisons``."""
    tokens = [count for _, count in one.each]
    if len(tokens) > 1 and tokens == [count for _, count in other.each]:
        differences = [after - before for (before, _), (after, _) in zip(one.each, other.each, strict=True)]
        found = ratio(differences, tokens)
        return _Reach(student_quantile(1 - 0.025 / comparisons, found.n - 1) * found.standard_error, found.n)
    return _Reach(Z95 * math.hypot(one.standard_error, other.standard_error), None)


def _meanwhile(best: EpochLoss, last: EpochLoss) -> str:
    """What the training loss did between the two."""
    if math.isnan(best.train) or math.isnan(last.train):
        return ""
    between = "from {} to {}".format(*_written(best.train, last.train))
    if last.train > best.train:
        return f", and training rose too, {between}"
    return f", while training fell {between}" if last.train < best.train else ""


def _not_turned(losses: Sequence[EpochLoss]) -> str:
    first, before, last = losses[0], losses[-2], losses[-1]
    reach = _reach(before, last)
    within = before.validation - last.validation <= reach.nats
    begun, so_far, ended = _written(first.validation, before.validation, last.validation)
    if len(losses) == 2:
        return f"validation fell from {begun} to {ended}" + (f", within {reach.words}" if within else reach.doubt)
    start = f"validation had not turned: it fell from {begun} to {ended}"
    recent = f"from {so_far} since epoch {before.epoch:.3g}"
    if within:
        return f"{start}, at the end hardly any more: {recent}, within {reach.words}"
    return f"{start}, and still did at the end, {recent}{reach.doubt}: train longer"


def _written(*values: float) -> list[str]:
    """To four digits, or as many as tell different values apart."""
    for digits in range(4, 17):
        texts = [f"{value:.{digits}g}" for value in values]
        if len(set(texts)) == len(set(values)):
            break
    return texts


def epoch_table(losses: Sequence[EpochLoss]) -> tuple[list[str], list[list[str | int | float | None]]]:
    """Header and rows: one for each validation, the base and the best named; what was not measured is None.

    Of preferences there is a column for their accuracy as well.
    """
    best = best_of(losses) if losses else None
    accuracies = any(math.isfinite(one.accuracy) for one in losses)
    header = ["epoch", "step", "train", "validation", "± s.e.", "validation − train", *["preferred"] * accuracies, ""]
    rows: list[list[str | int | float | None]] = []
    for one in losses:
        names = ["base"] * (one.step == 0) + ["best"] * (one is best)
        numbers = [one.train, one.validation, one.standard_error, one.validation - one.train]
        numbers += [one.accuracy] * accuracies
        rows.append([round(one.epoch, 3), one.step, *map(_or_none, numbers), ", ".join(names)])
    return header, rows


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(line: Mapping[str, Any], key: str) -> float:
    value = line.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _each(line: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    """Nats and tokens of each example; none unless all are known."""
    values = line.get("each")
    if not isinstance(values, list):
        return ()
    found = tuple((float(nats), float(tokens)) for nats, tokens in values if nats is not None)
    return found if len(found) == len(values) else ()
