"""What the report of a fine-tuning run shows besides: search, epochs, method, forgetting, samples, data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from folio.finetuning.overfitting import EpochLoss, epoch_losses, epoch_table, turn_of
from folio.finetuning.samples import FILE, by_temperature, ended_shares, read_samples
from folio.finetuning.search.records import read_search
from folio.reports.charts import Series, line_chart
from folio.reports.forgetting import show_forgetting
from folio.reports.page import Cell, Page, flatten
from folio.reports.quantities import duration, size_text
from folio.reports.records import ADAPTERS, RunRecord
from folio.reports.search import show_search

SAMPLES_OPEN = 3
"""Samples of each temperature that are shown at once; the others are folded."""


def show_finetuning(page: Page, record: RunRecord) -> None:
    """The sections of a fine-tuning run; nothing for another. What the run did not write is left out.

    :class:`~folio.errors.ArtifactError` if its search, its samples or what it measured of the base are damaged.
    """
    base = record.config.get("base")
    if not isinstance(base, Mapping):
        return
    resolved = record.config.get("resolved")
    resolved = resolved if isinstance(resolved, Mapping) else {}
    if (search := read_search(record.path)) is not None:
        show_search(page, search)
    _epochs(page, record)
    _method(page, record, str(base.get("given", "")), resolved)
    show_forgetting(page, record)
    _samples(page, record)
    _data(page, resolved)


def _epochs(page: Page, record: RunRecord) -> None:
    losses = epoch_losses(record.lines, record.loss_key)
    if not losses:
        return
    page.section("Train against validation")
    turn = turn_of(losses)
    if turn is not None:
        page.note(f"{turn.words[0].upper()}{turn.words[1:]}.")
    unit = record.loss_key.replace("_", " ")
    page.figures(_curves(losses, unit))
    accuracies = [one for one in losses if math.isfinite(one.accuracy)]
    if accuracies:
        curve = Series("", [one.epoch for one in accuracies], [one.accuracy for one in accuracies], dots=True, colour=1)
        page.figures(line_chart([curve], title="Held-out pairs in which the chosen answer is preferred",
                                x_label="epoch", y_label="share of pairs", height=270))  # fmt: skip
    page.table(*epoch_table(losses), caption=f"Losses in {unit}")
    page.paragraph(
        "Train is the loss on as many training examples as are held out, in evaluation mode, so that the two compare; "
        "epoch 0 is the base before training. The standard error is that of the validation loss over its examples: how "
        "far other examples might have put it. Two validations share their examples, so their difference is surer than "
        "the two errors suggest; where the loss of each example was kept, it is judged by that."
    )


def _curves(losses: Sequence[EpochLoss], unit: str) -> str:
    """Both curves over epochs, an upright at the best."""
    epochs, best = [one.epoch for one in losses], min(losses, key=lambda one: one.validation)
    values = [value for one in losses for value in (one.train, one.validation) if math.isfinite(value)]
    curves = [
        Series("train", epochs, [one.train for one in losses], dots=True, colour=0),
        Series("validation", epochs, [one.validation for one in losses], dots=True, colour=1),
    ]
    if len(losses) > 1 and max(values) > min(values):
        upright = Series(f"best: {best.validation:.4g}", [best.epoch] * 2, [max(values), min(values)],
                         faint=True, dashed=True, colour=2)  # fmt: skip
        curves.append(upright)
    title = f"Loss over epochs, best {best.validation:.4g} at epoch {best.epoch:.3g}"
    return line_chart(curves, title=title, x_label="epoch", y_label=unit)


def _method(page: Page, record: RunRecord, base: str, resolved: Mapping[str, Any]) -> None:
    if "method" not in resolved:
        return
    page.section("Method and memory")
    method, trained = resolved["method"], record.trained_in_words
    facts: dict[str, object] = {"method": method, "base": base}
    if trained is not None:
        facts["trained parameters"] = trained
    if record.lines:
        facts["time"] = duration(record.elapsed_s)
    if record.peak_bytes is not None:
        of = "tensors on the GPU" if str(resolved.get("device", "")).startswith("cuda") else "the whole process"
        facts["peak memory, measured"] = f"{size_text(record.peak_bytes)} of {of}"
    if method in ADAPTERS:
        facts |= flatten({"lora": record.config["recipe"]["lora"]})
    page.key_values(facts)
    memory = resolved.get("memory")
    if isinstance(memory, Mapping) and (rows := _memory_rows(memory)):
        page.table(("memory of the weights", "MB"), rows)
        page.paragraph("Reckoned beforehand; activations come on top, and depend on the batch.")


def _memory_rows(memory: Mapping[str, Any]) -> list[list[Cell]]:
    """What every key that ends in ``_bytes`` is for, and its size, with their sum; nothing that is empty."""
    sizes = {
        key.removesuffix("_bytes").replace("_", " ").replace(".", ", "): value
        for key, value in flatten(memory).items()
        if key.endswith("_bytes") and isinstance(value, int) and value
    }
    rows: list[list[Cell]] = [[name, size / 1e6] for name, size in sizes.items()]
    return [*rows, ["total", sum(sizes.values()) / 1e6]] if len(rows) > 1 else rows


def _samples(page: Page, record: RunRecord) -> None:
    samples = read_samples(record.path)
    if not samples:
        return
    page.section("Samples", f"What the model of step {samples[0].step:,} wrote; all of it is in {FILE} and samples.md.")
    rows: list[list[Cell]] = [
        [name, one.n, f"{one.value:.0%}", f"{one.low:.0%} to {one.high:.0%}"] for name, one in ended_shares(samples)
    ]
    page.table(("temperature", "samples", "ended by themselves", "95 %"), rows)
    for temperature, group in by_temperature(samples):
        for number, one in enumerate(group, 1):
            title = f"temperature {temperature:g}, {number}: {one.marked}"
            if number <= SAMPLES_OPEN:
                page.sample(one.text, title=title, prompt=one.prompt)
            else:
                page.details(title, one.prompt + one.text)


def _data(page: Page, resolved: Mapping[str, Any]) -> None:
    data = resolved.get("data")
    if isinstance(data, Mapping) and data.get("rows"):
        page.section("Data", "The examples as they were learned from and measured on; nothing was left out unseen.")
        page.table(data["header"], data["rows"])
