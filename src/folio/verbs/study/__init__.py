"""``folio study run STUDY`` trains a grid of runs; ``folio study report STUDY`` says what came of it."""

from __future__ import annotations

from folio.verbs.action import Action
from folio.verbs.study.report import ReportOptions, report
from folio.verbs.study.run import RunOptions, run

__all__ = ["ACTIONS", "ReportOptions", "RunOptions", "report", "run"]

ACTIONS = {
    "run": Action(
        RunOptions,
        run,
        "Train every cell of a study that is not finished, and report.",
        examples=(
            "folio study run learning-rates --scale small --workers 2",
            "folio study run my-study.toml --dry-run",
            "folio study run runs/my-study --retry",
            "folio study run my-study.toml --engine ray --address auto --gpus-per-cell 1",
        ),
    ),
    "report": Action(
        ReportOptions,
        report,
        "Tables, figures and a page of a study, as far as it has come.",
        examples=("folio study report runs/my-study", "folio study report my-study.toml"),
    ),
}
