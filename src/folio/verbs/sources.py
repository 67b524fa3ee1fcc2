"""A source to shards, for the verbs that make some: what is to be done put together, done, and shown."""

from __future__ import annotations

import time
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folio.corpus.sources.sides import ByHash, FirstParts, FirstTokens, Sides
from folio.errors import ConfigError
from folio.verbs.action import PLAIN_WIDTH, Terminal

if TYPE_CHECKING:
    from folio.corpus.quality import QualityConfig, QualityReport
    from folio.corpus.sources import PartCounts, Plan
    from folio.shards.config import ShardsConfig
    from folio.shards.machines.config import EngineConfig
    from folio.shards.parts.config import DividedSourceOptions
    from folio.shards.parts.merge import PartsProgress
    from folio.shards.parts.write import PartsWritten
    from folio.shards.parts.writing import Writing
    from folio.tokenizer import Tokenizer
    from folio.verbs.progress import Progress

STEPS = {"survey": "survey for duplicates", "shingles": "compare candidates", "encode": "write shards"}
"""Those of a writing that take a while, as the bar calls them."""


def plan_source(
    path: str,
    division: DividedSourceOptions,
    quality: QualityConfig,
    tokens: int | None,
    tokenizer: Tokenizer,
    to: Path,
    config: ShardsConfig,
    terminal: Terminal,
    known: Plan | None = None,
) -> Writing:
    """Look at the source that lies at ``path`` and say what it is; no text is read, nothing written.

    ``known`` is an earlier plan of it, which spares summing files that have not changed; without it the plan of
    unfinished work for ``to``.
    """
    from folio.corpus.sources import open_source
    from folio.shards.parts.refining import Refining
    from folio.shards.parts.writing import known_plan, plan_writing

    source = open_source(division.reading(path), known=known or known_plan(to), tell=terminal.print)
    about = source.describe()
    rows = "" if about["rows"] is None else f", {about['rows']:,} rows"
    counts = f"{about['files']:,} files, {about['parts']:,} parts{rows}, {about['bytes'] / 1e6:,.1f} MB to read"
    terminal.print(f"source     {about['from']}: {counts}")
    contamination = None
    if not division.decontaminate and quality.contamination != type(quality.contamination)():
        raise ConfigError(
            "quality.contamination.* says how to look for benchmark items, and no benchmark is named",
            "Name some: source.decontaminate.",
        )
    if division.decontaminate:
        from folio.verbs.decontamination import contamination_of

        contamination = contamination_of(division.decontaminate, terminal, quality.contamination)
    sides = division.sides(source, config.tokens_per_shard)
    duplicates = {"keep": "kept", "exact": "exact ones dropped", "near": "near ones dropped"}[quality.duplicates]
    terminal.print(f"held out   {_in_words(sides)}; duplicates {duplicates}")
    return plan_writing(Refining(source, quality, contamination), tokenizer, to, config, sides, tokens)


def _in_words(sides: Sides) -> str:
    match sides:
        case ByHash():
            return f"{sides.fraction:.4g} of the documents, by hash"
        case FirstTokens():
            return f"the first documents, {sides.tokens:,} tokens"
        case FirstParts():
            return f"the first file, {sides.count:,} parts"


def write_source(writing: Writing, engine: EngineConfig, workers: int, terminal: Terminal) -> PartsWritten | None:
    """Do it, with a bar for each step that is done with every part; None where a cluster was given it to do."""
    from folio.shards.machines.engines import write_with

    with _Bars(writing, terminal) as bars:
        written = write_with(writing, engine, workers, (), bars.show)
    if written is not None and (lacking := lacking_tokens(writing, written)):
        assert writing.budget is not None
        there = writing.budget - lacking
        terminal.print(f"the source holds {there:,} tokens, not the {writing.budget:,} asked for", style="yellow")
    return written


def lacking_tokens(writing: Writing, written: PartsWritten) -> int:
    """How many of the tokens asked for the source does not hold."""
    there = sum(written.shards.tokens(name) for name in written.shards.splits)
    return max(0, (writing.budget or 0) - there)


def show_documents(written: PartsWritten, terminal: Terminal) -> None:
    """What became of the documents, and of those that quality steps caught, with examples."""
    counts = {name.replace("_", " "): count for name, count in described(written.counts).items() if count}
    there = sum(written.shards.documents(name) for name in written.shards.splits)
    if written.counts.cleaning.kept > there and not written.report.steps:
        counts["beyond the budget"] = written.counts.cleaning.kept - there
    terminal.table(("documents of the parts read", ""), list(counts.items()))
    if written.report.steps:
        from folio.corpus.quality.report import COLUMNS

        terminal.table(COLUMNS, written.report.rows())
        for step, what, document, found, text in written.report.example_rows():
            line = f"{step}, {what}: {document}{f' ({found})' if found else ''}: {text}"
            terminal.print(line if len(line) <= PLAIN_WIDTH else f"{line[: PLAIN_WIDTH - 3]}...", style="dim")


def described(counts: PartCounts) -> dict[str, int]:
    """``counts`` as one row of numbers."""
    cleaning = counts.cleaning
    return {
        "kept": cleaning.kept,
        "empty": cleaning.empty,
        "line_ends_mended": cleaning.newlines_normalized,
        "composed": cleaning.nfc_normalized,
        "damaged_places_passed_over": counts.damaged,
        "rows_in_damaged_groups": counts.damaged_rows,
    }


def quality_data(report: QualityReport) -> dict[str, Any] | None:
    """The report for ``--json``, None without quality steps."""
    return report.record() if report.steps else None


class _Bars:
    """The bar of the step under way."""

    def __init__(self, writing: Writing, terminal: Terminal) -> None:
        self._budget, self._terminal = writing.budget, terminal
        self._step = ""
        self._open: Any = None
        self._bar: Progress | None = None
        self._begun = (0.0, 0, 0)

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *error: Any) -> None:
        self._close(*error)

    def show(self, progress: PartsProgress) -> None:
        if progress.note:
            self._terminal.print(progress.note)
        if progress.step not in STEPS:
            return
        if progress.step != self._step:
            self._next(progress)
        assert self._bar is not None
        fields = {"parts": f"{progress.parts:,}/{progress.of_parts:,}"}
        if progress.step == "encode":
            then, tokens, text_bytes = self._begun
            seconds = max(1e-9, time.monotonic() - then)
            speed = f"{(progress.text_bytes - text_bytes) / 1e6 / seconds:,.1f} MB/s"
            fields |= {"documents": f"{progress.documents:,}", "text": f"{progress.text_bytes / 1e6:,.1f} MB ({speed})"}
            fields["tokens"] = f"{progress.tokens:,} ({(progress.tokens - tokens) / seconds:,.0f}/s)"
            if self._budget is not None:
                self._bar.update(min(progress.tokens, self._budget), fields)
                return
        self._bar.update(ceil(progress.source_bytes / 1e6), fields)

    def _next(self, progress: PartsProgress) -> None:
        self._close(None, None, None)
        self._step = progress.step
        self._begun = (time.monotonic(), progress.tokens, progress.text_bytes)
        by_tokens = self._step == "encode" and self._budget is not None
        total, unit = (self._budget, "token") if by_tokens else (max(1, ceil(progress.of_bytes / 1e6)), "MB")
        self._open = self._terminal.progress(STEPS[self._step], total, unit)
        self._bar = self._open.__enter__()

    def _close(self, *error: Any) -> None:
        if self._open is not None:
            self._open.__exit__(*error)
            self._open = self._bar = None
