"""What the report of a fine-tuning run shows besides: search, epochs, method, forgetting, samples, data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from folio.checksums import read_sealed_json
from folio.evaluation.comparing.verdict import written
from folio.finetuning.overfitting import HEADER, EpochLoss, epoch_losses, epoch_rows, turn_of
from folio.finetuning.samples import FILE, by_temperature, ended_shares, read_samples
from folio.finetuning.search.records import read_search
from folio.reports.charts import Series, line_chart
from folio.reports.page import Cell, Page, flatten
from folio.reports.records import RunRecord
from folio.reports.search import show_search

FORGETTING = "forgetting.json"
"""In a run's folder: what the base could do before and after."""
FORGOTTEN = ("score", "before", "after", "difference", "95 %", "p, corrected", "n", "verdict")
"""The columns of :func:`forgetting_rows`."""
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
    _forgetting(page, record)
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
    page.table(HEADER, epoch_rows(losses), caption=f"Losses in {unit}")
    page.paragraph(
        "Train is the loss on as many training examples as are held out, in evaluation mode, so that the two compare; "
        "epoch 0 is the base before training. The standard error is that of the validation loss over its examples: how "
        "far other examples might have put it. Two validations share their examples, so their difference is surer than "
        "the two errors suggest."
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
    trained, whole = resolved.get("trainable"), record.parameters
    facts: dict[str, object] = {"method": resolved["method"], "base": base}
    if isinstance(trained, int):
        share = f" of {whole:,} ({trained / whole:.2%})" if whole and whole >= trained else ""
        facts["trained parameters"] = f"{trained:,}{share}"
    if resolved["method"] in ("lora", "qlora"):
        facts |= flatten({"lora": record.config["recipe"]["lora"]})
    page.key_values(facts)
    memory = resolved.get("memory")
    sizes = _sizes(memory) if isinstance(memory, Mapping) else {}
    if sizes:
        page.table(
            ("what", "MB"), [[name, size / 1e6] for name, size in sizes.items()], caption="Memory of the weights"
        )


def _sizes(memory: Mapping[str, Any]) -> dict[str, int]:
    """Bytes by what they are for, in words, of every key that ends in ``_bytes``."""
    flat = flatten(memory)
    return {
        key.removesuffix("_bytes").replace("_", " ").replace(".", ", "): value
        for key, value in flat.items()
        if key.endswith("_bytes") and isinstance(value, int)
    }


def _forgetting(page: Page, record: RunRecord) -> None:
    path = record.path / FORGETTING
    if not path.is_file():
        return
    found = read_sealed_json(path, "Remove it, and the report is written without it.")
    text = f" The loss is of {found['text']}." if found.get("text") else ""
    page.section(
        "Forgetting",
        f"What {found['base']} could do before and what {found['tuned']}, made from it, can do after: on the same "
        f"items, paired item by item, so that the luck of the items cancels.{text}",
    )
    page.table(FORGOTTEN, forgetting_rows(found["comparisons"]))
    for note in found["notes"]:
        page.paragraph(note)


def forgetting_rows(comparisons: Iterable[Mapping[str, Any]]) -> list[list[Cell]]:
    """A row of :data:`FORGOTTEN` for each comparison of the base with the model made from it, given as JSON values."""
    rows: list[list[Cell]] = []
    for one in comparisons:
        points = one["discordant"] is not None
        low, high = (_end(one[end], points) for end in ("low", "high"))
        p = one["p_adjusted"]
        rows.append(
            [
                f"{one['measurement']} {one['metric']}",
                _value(one["first_value"], points),
                _value(one["second_value"], points),
                written(one["difference"], points),
                f"{low} to {high}" if low and high else "no interval",
                "" if _missing(p) else f"{'<' * one['p_is_bound']}{p:.2g}",
                one["n"],
                one["verdict"]["words"],
            ]
        )
    return rows


def _value(value: float, points: bool) -> str:
    return f"{value:.1%}" if points else f"{value:.4f}"


def _end(value: float | None, points: bool) -> str:
    return "" if value is None or math.isnan(value) else written(value, points).removesuffix(" points")


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


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
