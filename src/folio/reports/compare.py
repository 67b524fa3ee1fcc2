"""Several runs on one page: scores side by side, curves over each other, and what differs in their configurations."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from folio.errors import UserError
from folio.reports.charts import HALF, Series, line_chart
from folio.reports.page import Cell, Page, flatten
from folio.reports.records import RunRecord, column, number, read_run, smooth
from folio.reports.run import duration, span_of

HEADER = (
    "run", "parameters", "steps", "tokens", "nats/token", "± s.e.", "perplexity", "bits/byte", "n",
    "tokens/s", "time",
)  # fmt: skip


def compare_report(runs: Sequence[Path], to: Path) -> Path:
    """Write a page that compares two or more runs, in the order given, to ``to``.

    :class:`~folio.errors.ArtifactError` if one of the folders is no run.
    """
    if len(runs) < 2:
        raise UserError(f"a comparison needs two runs or more, got {len(runs)}", "Name each run's folder.")
    records = [read_run(run) for run in runs]
    names = distinct_names(records)
    page = Page(f"{len(records)} runs compared", ", ".join(names), kind="comparison")
    page.section(
        "Scores",
        "Each run's best validation; n counts the tokens measured, s.e. is the standard error of that run alone.",
    )
    page.table(HEADER, [_row(name, record) for name, record in zip(names, records, strict=True)])
    _warn(page, records)
    _curves(page, names, records)
    _differences(page, names, records)
    return page.write(to)


def distinct_names(records: Sequence[RunRecord]) -> list[str]:
    """The folders' names; where two are equal, their whole paths as given."""
    names = [record.name for record in records]
    return [name if names.count(name) == 1 else str(record.path) for name, record in zip(names, records, strict=True)]


def _row(name: str, record: RunRecord) -> list[Cell]:
    best = record.best_validation or {}
    scores = [number(best, key) for key in ("nats_per_token", "standard_error_nats", "perplexity", "bits_per_byte")]
    speed = record.typical("tokens_per_s")
    return [
        name,
        record.parameters,
        record.steps,
        record.tokens_seen,
        *(value if math.isfinite(value) else None for value in scores),
        best.get("tokens"),
        speed if math.isfinite(speed) else None,
        duration(record.elapsed_s),
    ]


def _warn(page: Page, records: Sequence[RunRecord]) -> None:
    counts = {record.best_validation.get("tokens") for record in records if record.best_validation}
    tokenizers = {json.dumps(record.config.get("tokenizer"), sort_keys=True) for record in records}
    if len(tokenizers) > 1:
        page.note("The runs do not share a tokenizer: compare bits/byte; a nat per token means something else in each.")
    elif len(counts) > 1:
        page.note("The runs were validated on different numbers of tokens: their scores may be of different text.")
    page.paragraph(
        "Runs validated on the same text share its luck, so a difference is surer than the two errors suggest; "
        "runs of different seeds also differ by chance, which no error here counts."
    )


def _curves(page: Page, names: Sequence[str], records: Sequence[RunRecord]) -> None:
    train, validation, over_time, bits = [], [], [], []
    for index, (name, record) in enumerate(zip(names, records, strict=True)):
        smoothed = smooth(column(record.train, "nats_per_token"), span_of(record))
        losses, checked = column(record.validation, "nats_per_token"), column(record.validation, "step")
        train.append(Series(name, column(record.train, "step"), smoothed, colour=index))
        validation.append(Series(name, checked, losses, dots=True, colour=index))
        bits.append(Series(name, checked, column(record.validation, "bits_per_byte"), dots=True, colour=index))
        elapsed = column(record.validation, "elapsed_s")
        over_time.append(Series(name, elapsed, losses, dots=True, colour=index))
    page.section("Curves")
    page.figures(
        line_chart(validation, title="Validation loss", x_label="step", y_label="nats per token"),
        line_chart(train, title="Training loss, smoothed", x_label="step", y_label="nats per token"),
    )
    page.figures(
        line_chart(bits, title="Bits per byte", x_label="step", y_label="bits per byte", width=HALF, height=270),
        line_chart(
            over_time,
            title="Validation loss over time",
            x_label="seconds",
            y_label="nats per token",
            width=HALF,
            height=270,
        ),
    )


def _differences(page: Page, names: Sequence[str], records: Sequence[RunRecord]) -> None:
    flat = [flatten({k: v for k, v in record.config.items() if k != "environment"}) for record in records]
    keys = list(dict.fromkeys(key for config in flat for key in config))
    rows: list[list[Cell]] = []
    for key in keys:
        values = [json.dumps(config[key], ensure_ascii=False) if key in config else "absent" for config in flat]
        if len(set(values)) > 1:
            rows.append([key, *(value.strip('"') for value in values)])
    page.section("What differs")
    if rows:
        page.table(("key", *names), rows)
    else:
        page.paragraph("The configurations are equal.")
    for name, record in zip(names, records, strict=True):
        if record.config:
            page.details(f"{name}: whole configuration", record.config)
