"""Several runs on one page: scores side by side, curves over each other, and what differs in their configurations."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from folio.errors import UserError
from folio.finetuning.overfitting import LossKey
from folio.reports.charts import HALF, Series, line_chart
from folio.reports.page import Cell, Page, flatten
from folio.reports.quantities import duration
from folio.reports.records import PAIRS, RunRecord, column, number, read_run, smooth
from folio.reports.run import span_of

TOKENS: LossKey = "nats_per_token"
OF_TEXT = (
    "run", "parameters", "steps", "tokens", "nats/token", "± s.e.", "perplexity", "bits/byte", "n",
    "tokens/s", "time",
)  # fmt: skip
TEXT_KEYS = (TOKENS, "standard_error_nats", "perplexity", "bits_per_byte", "tokens")
"""In a validation: the scores of :data:`OF_TEXT`, and what they are of."""
OF_PAIRS = (
    "run", "parameters", "steps", "tokens", "nats/pair", "± s.e.", "preferred", "n (pairs)", "tokens/s", "time",
)  # fmt: skip
PAIR_KEYS = (PAIRS, "standard_error_nats", "accuracy", "pairs")


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
        "Each run's best validation; n counts what was measured, s.e. is the standard error of that run alone.",
    )
    _scores(page, names, records)
    _warn(page, records)
    _curves(page, names, records)
    _differences(page, names, records)
    return page.write(to)


def distinct_names(records: Sequence[RunRecord]) -> list[str]:
    """The folders' names; where two are equal, their whole paths as given."""
    names = [record.name for record in records]
    return [name if names.count(name) == 1 else str(record.path) for name, record in zip(names, records, strict=True)]


def _scores(page: Page, names: Sequence[str], records: Sequence[RunRecord]) -> None:
    """A table of the runs that learned text, and one of those that learned preferences."""
    both = list(zip(names, records, strict=True))
    for header, keys in ((OF_TEXT, TEXT_KEYS), (OF_PAIRS, PAIR_KEYS)):
        rows = [_row(name, record, keys) for name, record in both if record.loss_key == keys[0]]
        if rows:
            page.table(header, rows)


def _row(name: str, record: RunRecord, keys: Sequence[str]) -> list[Cell]:
    best = record.best_validation or {}
    scores = [(key, number(best, key)) for key in keys[:-1]]
    speed = record.typical("tokens_per_s")
    return [
        name,
        record.parameters,
        record.steps,
        record.tokens_seen,
        *(_score(key, value) for key, value in scores),
        best.get(keys[-1]),
        speed if math.isfinite(speed) else None,
        duration(record.elapsed_s),
    ]


def _score(key: str, value: float) -> Cell:
    if not math.isfinite(value):
        return None
    return f"{value:.1%}" if key == "accuracy" else value


def _warn(page: Page, records: Sequence[RunRecord]) -> None:
    counts = {
        record.best_validation.get("tokens")
        for record in records
        if record.best_validation and record.loss_key == TOKENS
    }
    tokenizers = {json.dumps(record.config.get("tokenizer"), sort_keys=True) for record in records}
    if len({record.loss_key for record in records}) > 1:
        page.note("Some runs learned text and some preferences: a nat per token and a nat per pair do not compare.")
    if len(tokenizers) > 1:
        page.note("The runs do not share a tokenizer: compare bits/byte; a nat per token means something else in each.")
    elif len(counts) > 1:
        page.note("The runs were validated on different numbers of tokens: their scores may be of different text.")
    page.paragraph(
        "Runs validated on the same text share its luck, so a difference is surer than the two errors suggest; "
        "runs of different seeds also differ by chance, which no error here counts."
    )


def _curves(page: Page, names: Sequence[str], records: Sequence[RunRecord]) -> None:
    """By step and by time; losses that are not of one kind do not share a figure."""
    page.section("Curves")
    numbered = list(enumerate(zip(names, records, strict=True)))
    for loss in (TOKENS, PAIRS):
        if members := [(index, *both) for index, both in numbered if both[1].loss_key == loss]:
            _curves_of(page, loss, members)


def _curves_of(page: Page, loss: LossKey, members: Sequence[tuple[int, str, RunRecord]]) -> None:
    """Of runs whose losses are of one kind; each comes with its colour and name."""
    second = "accuracy" if loss == PAIRS else "bits_per_byte"
    train, validation, over_time, seconds = [], [], [], []
    for index, name, record in members:
        smoothed = smooth(column(record.train, loss), span_of(record))
        losses, checked = column(record.validation, loss), column(record.validation, "step")
        train.append(Series(name, column(record.train, "step"), smoothed, colour=index))
        validation.append(Series(name, checked, losses, dots=True, colour=index))
        seconds.append(Series(name, checked, column(record.validation, second), dots=True, colour=index))
        elapsed = column(record.validation, "elapsed_s")
        over_time.append(Series(name, elapsed, losses, dots=True, colour=index))
    unit = loss.replace("_", " ")
    title, what = ("Pairs in order", "share of pairs") if loss == PAIRS else ("Bits per byte", "bits per byte")
    page.figures(
        line_chart(validation, title="Validation loss", x_label="step", y_label=unit),
        line_chart(train, title="Training loss, smoothed", x_label="step", y_label=unit),
    )
    page.figures(
        line_chart(seconds, title=title, x_label="step", y_label=what, width=HALF, height=270),
        line_chart(
            over_time, title="Validation loss over time", x_label="seconds", y_label=unit, width=HALF, height=270
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
