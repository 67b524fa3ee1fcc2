"""Several runs on one page: scores side by side, curves over each other, and what differs in their configurations."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from folio.errors import UserError
from folio.finetuning.overfitting import LossKey
from folio.reports.beside import show_samples
from folio.reports.curves import show_curves
from folio.reports.differences import differing_keys
from folio.reports.intervals import Interval, interval_chart
from folio.reports.page import Cell, Page
from folio.reports.quantities import duration
from folio.reports.records import PAIRS, RunRecord, number, read_run

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
NORMAL_95 = 1.96
"""Standard errors to each side of a mean that 95 % of samples lie within."""
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
    _intervals(page, names, records)
    _warn(page, records)
    show_curves(page, names, records)
    show_samples(page, names, records)
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
            waited = any(record.waited_s > 0 for record in records)
            page.table((*header, *["waited for data"] * waited), [row if waited else row[:-1] for row in rows])


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
        duration(record.waited_s) if math.isfinite(record.waited_s) else None,
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
    tokenizers = _tokenizers(records)
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


def _intervals(page: Page, names: Sequence[str], records: Sequence[RunRecord]) -> None:
    """A figure for each kind of loss that two runs have: where each one's own luck of the text leaves its score."""
    charts = []
    for loss, unit in ((TOKENS, "nats/token"), (PAIRS, "nats/pair")):
        members = [(index, name, record) for index, (name, record) in enumerate(zip(names, records, strict=True))
                   if record.loss_key == loss and record.best_validation is not None]  # fmt: skip
        in_bits = loss == TOKENS and len(_tokenizers(record for _, _, record in members)) > 1
        rows = [_interval(index, name, record, in_bits=in_bits) for index, name, record in members]
        if len(rows) > 1:
            measure = "bits/byte" if in_bits else unit
            charts.append(
                interval_chart(rows, title=f"Best validation, {measure}", x_label=f"{measure}, less is better")
            )
    if charts:
        page.figures(*charts, caption="Lines: 95 % intervals of each run alone, 1.96 standard errors to both sides.")


def _interval(index: int, name: str, record: RunRecord, *, in_bits: bool) -> Interval:
    best = record.best_validation or {}
    nats, error = number(best, record.loss_key), number(best, "standard_error_nats")
    value = number(best, "bits_per_byte") if in_bits else nats
    margin = NORMAL_95 * error * (value / nats if nats else math.nan)
    low, high = value - margin, value + margin
    known = math.isfinite(low)
    return Interval(name, value, low, high, f"{value:.4g}: {low:.4g} to {high:.4g}" if known else f"{value:.4g}", index)


def _tokenizers(records: Iterable[RunRecord]) -> set[str]:
    return {json.dumps(record.config.get("tokenizer"), sort_keys=True) for record in records}


def _differences(page: Page, names: Sequence[str], records: Sequence[RunRecord]) -> None:
    page.section("What differs")
    rows = differing_keys([{k: v for k, v in record.config.items() if k != "environment"} for record in records])
    if rows:
        page.table(("key", *names), rows)
    else:
        page.paragraph("The configurations are equal.")
    if places := differing_keys([record.environment for record in records]):
        page.table(("environment", *names), places, caption="Where they ran")
    for name, record in zip(names, records, strict=True):
        if record.config:
            page.details(f"{name}: whole configuration", record.config)
