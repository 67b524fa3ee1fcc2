"""What the curve of a range test says: loss against learning rate, smoothed, and the rate that it suggests.

N rates
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TOO_FAR_NATS = math.log(4)
"""A sweep ends when its smoothed loss is so far above its best: at four times the best perplexity. A loss in nats is a
logarithm, so a multiple of the loss itself would be another distance for each model."""
FEWEST_STEPS = 20
"""Of a sweep: fewer show no curve."""
SPAN = 0.1
"""Part of a sweep's steps that the smoothed loss is a mean over, about."""
SURE = 3.0
"""Standard errors of the smoothed loss by which it must fall, or rise, to be believed."""


@dataclass(frozen=True)
class Sweep:
    """The rate of each update and, beside it, the training loss of the next batch: the first to feel that update.

    ``untouched`` is the loss of the model before the sweep on the same batches, and on those that the sweep did not
    come to. ``ended`` says what went wrong at the last of the rates, and is empty if nothing did.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    untouched: tuple[float, ...]
    ended: str = ""

    @property
    def steps(self) -> int:
        """Updates that were to be made."""
        return len(self.untouched)

    @property
    def start(self) -> float:
        """The loss before the sweep, over all its batches."""
        return float(np.mean(self.untouched))

    def compared(self) -> Floats:
        """(N,): the losses as they would be on batches of equal difficulty.

        Batches differ among each other by more than a short sweep moves the loss; most of that is gone from the
        difference to the untouched model on the same batch.
        """
        before = np.asarray(self.untouched[: len(self.losses)], dtype=np.float64)
        compared: Floats = np.asarray(self.losses, dtype=np.float64) - before + self.start
        return compared


@dataclass(frozen=True)
class Suggestion:
    """What a sweep says: ``rate``, or None where it says nothing, and ``why`` in a sentence.

    The rate is where the smoothed loss falls fastest; ``lowest_at`` is where it is lowest, and a tenth of that is the
    other rule in use. ``smoothed`` holds a loss for each rate of the sweep.
    """

    rate: float | None
    lowest_at: float
    why: str
    notes: tuple[str, ...]
    smoothed: tuple[float, ...]


def suggest(sweep: Sweep) -> Suggestion:
    """Half-way, on a logarithmic scale, from the rate at which the smoothed loss falls fastest to that of its lowest.

    The first of the two tends to be too low for short runs, the second is on the brink of failing.
    """
    if len(sweep.rates) < 3:
        return Suggestion(None, math.nan, f"the sweep began with too high a rate: {sweep.ended}", (), sweep.losses)
    first, last = rate_text(sweep.rates[0]), rate_text(sweep.rates[-1])
    losses, decay = sweep.compared(), decay_over(sweep.steps)
    smoothed = _centred(np.minimum(losses, losses.min() + 2 * TOO_FAR_NATS), decay)
    noise = float(np.median(np.abs(np.diff(losses)))) / 0.6745 / math.sqrt(2)  # of one loss; a few far off do not count
    clear = SURE * noise * math.sqrt(2 * (1 - decay) / (1 + decay))
    lowest = int(smoothed.argmin())
    at_lowest = sweep.rates[lowest]
    if smoothed[: lowest + 1].max() - smoothed[lowest] <= clear:
        why = f"the loss never fell by more than its noise between {first} and {last}, so no rate can be suggested"
        return Suggestion(None, at_lowest, why, (), tuple(smoothed.tolist()))
    slopes = np.gradient(smoothed, np.log(sweep.rates))[: lowest + 1]
    steepest = int(slopes.argmin())
    rate = float(f"{math.sqrt(sweep.rates[steepest] * at_lowest):.3g}")
    fall = -slopes[steepest] * math.log(10)
    fastest = f"{rate_text(sweep.rates[steepest])}, where the smoothed loss fell fastest"
    why = (
        f"learning rate {rate_text(rate)}: half-way from {fastest} (by {fall:.2g} nats for ten times the rate), "
        f"to {rate_text(at_lowest)}, where it was lowest"
    )
    notes = []
    if not sweep.ended and smoothed[lowest:].max() - smoothed[lowest] <= clear:
        notes.append(f"the loss did not rise up to {last}: the sweep ended too low to show where training fails")
    if steepest < SPAN * sweep.steps:
        notes.append(f"the loss fell fastest where the sweep began, at {first}: a lower rate may be better")
    return Suggestion(rate, at_lowest, why, tuple(notes), tuple(smoothed.tolist()))


@dataclass(frozen=True)
class Spread:
    """What sweeps of several seeds suggest together: ``rate``, from ``low`` to ``high`` over the seeds, and ``why``.

    ``each`` holds what each seed's own sweep says. All three rates are None where no sweep suggests one.
    """

    rate: float | None
    low: float | None
    high: float | None
    why: str
    notes: tuple[str, ...]
    each: Mapping[int, Suggestion]


def suggest_over(sweeps: Mapping[int, Sweep]) -> Spread:
    """The median, on a logarithmic scale, of what the sweeps of several seeds suggest; of one, what that one does."""
    each = {seed: suggest(sweep) for seed, sweep in sweeps.items()}
    rates = {seed: found.rate for seed, found in each.items() if found.rate is not None}
    one = next(iter(each.values()))
    notes = dict.fromkeys(note for found in each.values() for note in found.notes)
    if not rates:
        return Spread(None, None, None, one.why, tuple(notes), each)
    rate = float(f"{math.exp(median(map(math.log, rates.values()))):.3g}")
    low, high = min(rates.values()), max(rates.values())
    if len(each) == 1:
        return Spread(rate, low, high, one.why, tuple(notes), each)
    silent = [f"seed {seed} suggests nothing: {found.why}" for seed, found in each.items() if found.rate is None]
    between = f"the median of {len(rates)} seeds, which suggest {rate_text(low)} to {rate_text(high)}"
    return Spread(rate, low, high, f"learning rate {rate_text(rate)}: {between}", (*silent, *notes), each)


def rate_text(rate: float) -> str:
    """A rate as people write it, to three digits: 1e-3, 3.16e-4, 0.02."""
    if rate >= 0.01:
        return f"{rate:.3g}"
    mantissa, exponent = f"{rate:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def decay_over(steps: int) -> float:
    """That of an exponential mean over about ``SPAN`` of the steps, half of them on each side of a step."""
    return 1 - 1 / max(2.0, SPAN * steps / 2)


class RunningMean:
    """An exponential mean of what came so far, without the pull towards zero of its beginning."""

    def __init__(self, decay: float) -> None:
        self.decay, self.total, self.weight = decay, 0.0, 0.0

    def add(self, value: float) -> float:
        self.total = self.decay * self.total + value
        self.weight = self.decay * self.weight + 1
        return self.total / self.weight


def _centred(values: Floats, decay: float) -> Floats:
    """(N,): the mean of ``values`` around each, weighted by decay ** distance.

    One that only looks back would lag, and so suggest rates that are too high.
    """
    index = np.arange(len(values))
    weights_NN = decay ** np.abs(index[:, None] - index[None, :])
    mean: Floats = weights_NN @ values / weights_NN.sum(1)
    return mean
