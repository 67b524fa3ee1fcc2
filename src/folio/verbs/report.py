"""``folio report RUN...``: one page that shows a run, or compares several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from folio.config import Table
from folio.verbs.action import Action, Outcome, Terminal

if TYPE_CHECKING:
    from folio.reports.records import RunRecord


class ReportOptions(Table):
    """What to report on, and where to write the page."""

    runs: Positional[tuple[Path, ...]]
    """The run folders that training wrote; several are compared on one page."""

    to: Path | None = None
    """Where to write the page: report.html within a single run, comparison.html here for several."""


def report(options: ReportOptions, terminal: Terminal) -> Outcome:
    """Write the page and print the scores. :class:`UserError` if no run is named or a folder is none."""
    from folio.errors import UserError
    from folio.reports.compare import compare_report
    from folio.reports.records import read_run
    from folio.reports.run import run_report

    if not options.runs:
        raise UserError("no run was named", "Name the folder that training wrote: folio report RUN")
    if len(options.runs) == 1:
        page = run_report(options.runs[0], options.to)
    else:
        page = compare_report(options.runs, options.to or Path("comparison.html"))
    scores = [_scores(read_run(run)) for run in options.runs]
    columns = ("run", "steps", "tokens", "nats/token", "± standard error", "bits/byte")
    keys = ("run", "steps", "tokens_seen", "nats_per_token", "standard_error_nats", "bits_per_byte")
    terminal.table(columns, [[score[key] for key in keys] for score in scores])
    return Outcome(data={"runs": scores}, wrote=(page,))


def _scores(record: RunRecord) -> dict[str, object]:
    """A run's best validation and how far it went; null where the run has no such number."""
    best = record.best_validation or {}
    keys = ("nats_per_token", "standard_error_nats", "perplexity", "bits_per_byte", "tokens")
    return {
        "run": str(record.path),
        "steps": record.steps,
        "tokens_seen": record.tokens_seen,
        "elapsed_s": record.elapsed_s,
        "best_step": best.get("step"),
        **{key: best.get(key) for key in keys},
    }


ACTIONS = {
    "": Action(
        ReportOptions,
        report,
        "One page that shows a run, or compares several.",
        examples=("folio report runs/demo", "folio report runs/a runs/b --to comparison.html"),
    )
}
