"""The figures of training as numbers: of one run, or of several over each other. Who draws them is another matter.

The eight that every run has: loss, smoothed loss, learning rate, gradient norm, step time, tokens/s, validation, and
train against validation; with what else was measured. A figure that none of the runs has numbers for is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from folio.finetuning.overfitting import LossKey
from folio.reports.probes import scores_over_steps
from folio.reports.records import PAIRS, RunRecord, column, smooth

Member = tuple[int, str, RunRecord]
"""A run with its number, which is its colour in every figure, and its name."""
LOSSES: tuple[LossKey, ...] = ("nats_per_token", PAIRS)


@dataclass(frozen=True)
class Curve:
    """One line: ``number`` is its colour, that of its run. ``quiet``: another curve of the same run speaks for it."""

    number: int
    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    faint: bool = False
    dots: bool = False
    dashed: bool = False
    quiet: bool = False

    @property
    def has_values(self) -> bool:
        return any(math.isfinite(y) for y in self.ys)


@dataclass(frozen=True)
class TrainingFigure:
    """``name`` is fit for a file. Of one run alone, what was measured on held-out text has number 1."""

    name: str
    title: str
    x_label: str
    y_label: str
    curves: list[Curve] = field(default_factory=list)
    log_y: bool = False
    caption: str = ""
    several: bool = False
    """Whether more runs than one are looked at, be they in this figure or not."""
    quantity: str = ""
    """What is drawn, where its unit alone does not say it: for a figure without its title."""

    @property
    def has_values(self) -> bool:
        return any(curve.has_values for curve in self.curves)

    @property
    def labels(self) -> list[str]:
        """What has to be told apart by name: nothing where all is of one run, and there is no other."""
        labels = list(dict.fromkeys(curve.label for curve in self.curves if not curve.quiet and curve.has_values))
        return labels if self.several or len(labels) > 1 else []


def span_of(record: RunRecord) -> int:
    """How many steps the smoothed curves average over: a fiftieth of the run, 5 to 200."""
    return min(200, max(5, len(record.train) // 50))


def training_figures(names: Sequence[str], records: Sequence[RunRecord]) -> list[TrainingFigure]:
    """The figures that these runs have numbers for; losses of different kinds do not share one."""
    members = [(number, name, record) for number, (name, record) in enumerate(zip(names, records, strict=True))]
    figures: list[TrainingFigure] = []
    of_kind = {loss: [one for one in members if one[2].loss_key == loss] for loss in LOSSES}
    kinds = [loss for loss in LOSSES if of_kind[loss]]
    for loss in kinds:
        figures += _figures_of_loss(loss, of_kind[loss], alone=len(members) == 1, suffix=len(kinds) > 1)
    figures += _figures_of_steps(members)
    return [replace(figure, several=len(members) > 1) for figure in figures if figure.has_values]


def measured_figures(names: Sequence[str], records: Sequence[RunRecord]) -> list[TrainingFigure]:
    """What runs measured while they trained besides the loss: a figure for each score that one has over two steps."""
    curves: dict[tuple[str, str], list[Curve]] = {}
    for number, (name, record) in enumerate(zip(names, records, strict=True)):
        for key, points in scores_over_steps(record).items():
            steps = [step for step, _ in points]
            values = [math.nan if score["value"] is None else float(score["value"]) for _, score in points]
            curves.setdefault(key, []).append(Curve(number, name, steps, values, dots=True))
    return [
        TrainingFigure(
            _file_name(f"{name}-{metric}"),
            f"{name}, {metric}",
            "step",
            metric.replace("_", " "),
            found,
            several=len(records) > 1,
        )
        for (name, metric), found in curves.items()
        if any(len(curve.xs) > 1 for curve in found)
    ]


def _figures_of_loss(loss: LossKey, members: list[Member], *, alone: bool, suffix: bool) -> list[TrainingFigure]:
    unit = loss.replace("_", " ")
    kind = loss.removeprefix("nats_per_")
    end, of = (f"-{kind}s", f", {kind}s") if suffix else ("", "")
    held_out = 1 if alone else None  # of one run, what is held out has a colour of its own

    each, smoothed = _train(members, loss), _train(members, loss, smoothed=True)
    validation = _validation(members, "step", loss, held_out)
    second, title, what = (
        ("accuracy", "Pairs in order", "share of pairs")
        if loss == PAIRS
        else ("bits_per_byte", "Validation, bits per byte", "bits per byte")
    )
    figures = [
        TrainingFigure(
            f"train-against-validation{end}", f"Train against validation{of}", "step", unit,
            _against(each, smoothed, validation) if alone else _all_against(smoothed, validation),
            caption="" if alone else "Solid: training, smoothed. Dashed: validation.", quantity="loss",
        ),
        TrainingFigure(f"loss{end}", f"Training loss, each step{of}", "step", unit,
                       [replace(one, faint=len(members) > 1) for one in each], quantity="training loss"),
        TrainingFigure(f"loss-smoothed{end}", f"Training loss, smoothed{of}", "step", unit, smoothed,
                       caption=_smoothing(members), quantity="training loss"),
        TrainingFigure(f"validation{end}", f"Validation loss{of}", "step", unit, validation,
                       quantity="validation loss"),
        TrainingFigure(second.replace("_", "-"), title, "step", what, _validation(members, "step", second, held_out)),
    ]  # fmt: skip
    if not alone:
        figures += [
            TrainingFigure(f"validation-over-{what}{end}", f"Validation loss over {what}{of}", label, unit,
                           _validation(members, key, loss), quantity="validation loss")
            for what, key, label in (("time", "elapsed_s", "seconds"), ("tokens", "tokens_seen", "tokens trained on"))
        ]  # fmt: skip
    return figures


def _against(each: list[Curve], smoothed: list[Curve], validation: list[Curve]) -> list[Curve]:
    """Of one run, by the names of the two losses."""
    curves = [replace(one, label="train, each step", faint=True, quiet=True) for one in each]
    curves += [replace(one, label="train") for one in smoothed]
    return [*curves, *(replace(one, label="validation") for one in validation if one.has_values)]


def _all_against(smoothed: list[Curve], validation: list[Curve]) -> list[Curve]:
    """Of several runs, by the names of the runs."""
    return [*smoothed, *(replace(one, label=f"{one.label}, validation", dashed=True, quiet=True) for one in validation)]


def _figures_of_steps(members: list[Member]) -> list[TrainingFigure]:
    rates = _train(members, "learning_rate")
    figures = [TrainingFigure("learning-rate", "Learning rate", "step", "learning rate", rates)]
    for name, key, title, unit in (
        ("gradient-norm", "grad_norm", "Gradient norm", "L2 norm before clipping"),
        ("step-time", "step_time_s", "Step time", "seconds"),
        ("tokens-per-second", "tokens_per_s", "Throughput", "tokens per second"),
        ("mfu", "mfu", "Model FLOPs utilisation", "share of the matrix-product peak"),
        ("data-wait", "data_wait_s", "Time waited for data", "seconds of a step"),
    ):
        if key == "data_wait_s" and not any(wait > 0 for *_, one in members for wait in column(one.train, key)):
            continue  # nobody waited, or nothing is known of it
        curves = _train(members, key, smoothed=True)
        if len(members) == 1:
            curves = [*(replace(one, faint=True, quiet=True) for one in _train(members, key)), *curves]
        log, caption = key == "grad_norm", _smoothing(members)
        quantity = title.lower() if unit.startswith("seconds") else ""
        figures.append(TrainingFigure(name, title, "step", unit, curves, log, caption, quantity=quantity))
    return figures


def _train(members: Sequence[Member], key: str, *, smoothed: bool = False) -> list[Curve]:
    """A curve over the steps for each run."""
    found = []
    for run, name, record in members:
        values = column(record.train, key)
        found.append(
            Curve(run, name, column(record.train, "step"), smooth(values, span_of(record)) if smoothed else values)
        )
    return found


def _validation(members: Sequence[Member], x: str, y: str, number: int | None = None) -> list[Curve]:
    """One for each run over its validations, all of ``number`` if that is given."""
    return [
        Curve(run if number is None else number, name, column(one.validation, x), column(one.validation, y), dots=True)
        for run, name, one in members
    ]


def _smoothing(members: Sequence[Member]) -> str:
    spans = sorted({span_of(record) for _, _, record in members})
    over = f"{spans[0]}" if len(spans) == 1 else f"{spans[0]} to {spans[-1]}"
    return f"A centred mean over {over} steps."


def _file_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
