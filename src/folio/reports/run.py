"""The report of one run: ``run/report.html``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from folio.reports.curves import show_curves
from folio.reports.embeddings import show_embeddings
from folio.reports.figures import span_of
from folio.reports.finetuning import show_finetuning
from folio.reports.page import Page, Stat
from folio.reports.probes import show_probes
from folio.reports.quantities import duration, event_words, size_text
from folio.reports.records import PAIRS, Line, RunRecord, column, number, read_run
from folio.reports.scales import short_number

REPORT = "report.html"
SAMPLES_OPEN = 2
SAMPLES_SHOWN = 12


def run_report(run: Path, to: Path | None = None) -> Path:
    """Write the report of a run folder to ``to`` (``run/report.html`` if None) and return where it lies.

    :class:`~folio.errors.ArtifactError` if the folder is no run or its metrics are damaged.
    """
    record = read_run(run)
    page = Page(record.name, subtitle(record), kind="run report")
    page.headline(headline(record))
    if record.best_validation is None:
        page.note("No validation was run: the numbers here are of the training text and say nothing about new text.")
    if not record.lines:
        page.note("The run has written no metrics yet.")
    show_finetuning(page, record)
    show_curves(page, [record.name], [record])
    show_probes(page, record)
    show_embeddings(page, record)
    _samples(page, record)
    _history(page, record)
    page.section("Configuration")
    if not record.config:
        page.note("The folder has no config.json.")
    for name, value in record.config.items():
        if name != "environment":
            page.details(name, value if isinstance(value, dict) else {name: value})
    if record.environment:
        page.details("environment", record.environment)
    return page.write(to or run / REPORT)


def subtitle(record: RunRecord) -> str:
    """One line that says what was trained on what, as far as the folder tells."""
    corpus = record.config.get("corpus")
    named = (corpus.get("name") or corpus.get("path")) if isinstance(corpus, dict) else None
    parts = [step_count(record)]
    if record.parameters is not None:
        parts.insert(0, f"{record.parameters:,} parameters")
    if named:
        parts.append(f"trained on {named}")
    if device := record.environment.get("device"):
        parts.append(str(device))
    return " · ".join(parts)


def headline(record: RunRecord) -> list[Stat]:
    """The numbers that matter; each score with its n and standard error."""
    stats = []
    best = record.best_validation
    if best is not None:
        nats, error = number(best, record.loss_key), number(best, "standard_error_nats")
        bits = number(best, "bits_per_byte")
        n = f"{counted(best)}step {best['step']:,}"
        perplexity, accuracy = number(best, "perplexity"), number(best, "accuracy")
        stats.append(Stat("Best validation loss", _decimals(nats), record.loss_unit, f"{plus_minus(error)}{n}"))
        if record.loss_key == PAIRS:
            stats += [Stat("Preferred", f"{accuracy:.1%}", note="of held-out pairs")] * math.isfinite(accuracy)
        else:
            stats.append(Stat("Perplexity", short_number(perplexity if math.isfinite(perplexity) else math.exp(nats))))
        if math.isfinite(bits):
            stats.append(Stat("Bits per byte", f"{bits:.4f}", note=plus_minus(error * bits / nats).rstrip(", ")))
    elif record.train:
        losses = [value for value in column(record.train, record.loss_key) if math.isfinite(value)][-span_of(record) :]
        last = sum(losses) / len(losses) if losses else math.nan
        stats.append(
            Stat("Training loss", short_number(last), record.loss_unit, f"mean of the last {len(losses)} steps")
        )
    stats.append(Stat("Tokens seen", short_number(record.tokens_seen), note=step_count(record)))
    stats.append(Stat("Time", duration(record.elapsed_s), note=waited_words(record)))
    if record.peak_bytes is not None:
        value, unit = size_text(record.peak_bytes).split(" ")
        stats.append(Stat("Peak memory", value, unit))
    speed, mfu = record.typical("tokens_per_s"), record.typical("mfu")
    if math.isfinite(speed):
        note = f"median, {mfu:.0%} MFU" if math.isfinite(mfu) else "median"
        stats.append(Stat("Speed", short_number(speed), "tokens/s", note))
    if record.parameters is not None:
        trained = record.trained_in_words
        stats.append(Stat("Parameters", short_number(record.parameters), note=f"trained: {trained}" if trained else ""))
    return stats


def step_count(record: RunRecord) -> str:
    return "1 step" if record.steps == 1 else f"{record.steps:,} steps"


def waited_words(record: RunRecord) -> str:
    """``3.2 s of it waiting for data``; nothing where nobody waited, or nothing is known of it."""
    return f"{duration(record.waited_s)} of it waiting for data" if record.waited_s >= 0.05 else ""


def _samples(page: Page, record: RunRecord) -> None:
    """The newest samples first, older ones folded; of many, some evenly spread over the run and always the last."""
    samples = record.of_kind("sample")
    if not samples:
        return
    spread = min(len(samples), SAMPLES_SHOWN)
    chosen = sorted({len(samples) - 1 - index * len(samples) // spread for index in range(spread)}, reverse=True)
    shown = f"{len(chosen)} of {len(samples)}, " if len(chosen) < len(samples) else ""
    page.section("Samples over time", f"What the model wrote, {shown}newest first.")
    for index in chosen:
        sample = samples[index]
        prompt, text = str(sample.get("prompt") or ""), str(sample.get("text") or "")
        text, title = text.removeprefix(prompt), f"after step {sample['step']:,}"
        if index >= len(samples) - SAMPLES_OPEN:
            page.sample(text, title=title, prompt=prompt)
        else:
            page.details(title, prompt + text)


def _history(page: Page, record: RunRecord) -> None:
    events = record.of_kind("event")
    if not record.checkpoints and not events and not record.validation:
        return
    page.section("History")
    unit = "pairs" if record.loss_key == PAIRS else "tokens"
    if record.validation:
        rows = [
            [int(line["step"]), *(_or_none(line, key) for key in (record.loss_key, "standard_error_nats")),
             *(_or_none(line, key) for key in ("perplexity", "bits_per_byte")), line.get(unit)]
            for line in record.validation
        ]  # fmt: skip
        header = ("step", record.loss_unit, "± s.e.", "perplexity", "bits/byte", f"n ({unit})")
        page.table(header, rows, caption="Validation")
    if record.checkpoints:
        page.table(
            ("checkpoint", "size", "id"), [_checkpoint(*one) for one in record.checkpoints], caption="Checkpoints"
        )
    if events:
        rows = [[int(event["step"]), str(event.get("event")), event_words(event)] for event in events]
        page.table(("step", "event", "what it says"), rows, caption="Events")


def _checkpoint(name: str, manifest: Any) -> list[str]:
    if manifest is None:
        return [name, "–", "cannot be read"]
    size = sum(record.bytes for record in manifest.files.values())
    return [name, size_text(size), manifest.id[:12]]


def _or_none(line: Line, key: str) -> float | None:
    value = number(line, key)
    return value if math.isfinite(value) else None


def counted(line: Line) -> str:
    """``n = 181,233 tokens, `` or nothing where the line does not say what it counts."""
    return next((f"n = {line[unit]:,} {unit}, " for unit in ("pairs", "tokens") if unit in line), "")


def plus_minus(error: float) -> str:
    """``± 0.0041, `` or nothing where the error is unknown."""
    return f"± {_decimals(error)}, " if math.isfinite(error) else ""


def _decimals(nats: float) -> str:
    """With four decimals, or four digits where those would hardly show."""
    return f"{nats:.4f}" if not nats or abs(nats) >= 0.001 else short_number(nats)
