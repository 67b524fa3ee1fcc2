"""``folio report RUN...``: one page that shows a run or an evaluation, or compares several runs; figures for papers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from tyro.conf import Positional

from folio.config import Table
from folio.verbs.action import Action, Outcome, Terminal

if TYPE_CHECKING:
    from folio.reports.records import RunRecord


class ReportOptions(Table):
    """What to report on, and where to write the page."""

    runs: Positional[tuple[Path, ...]]
    """The run folders that training wrote, several of which are compared on one page; or one evaluation folder."""

    to: Path | None = None
    """Where to write the page: report.html within a single folder, comparison.html here for several."""

    figures: Path | None = None
    """Write the figures of training into this folder besides, a file each, for papers; needs the extra study."""

    format: tuple[Literal["svg", "png", "pdf"], ...] = ("svg",)
    """figures: their formats, png at 300 dots an inch."""

    columns: int = Field(default=1, ge=1, le=2)
    """figures: columns of a page that one is as wide as: 84 mm, or 178 mm."""

    fonts: Literal["text", "paths"] = "text"
    """figures: in svg, text stays text, which a page sets in its own font, or becomes paths, the same anywhere."""

    csv: Path | None = None
    """Write every number of training and validation to this file."""

    @field_validator("format", mode="before")
    @classmethod
    def _split_at_commas(cls, given: Any) -> Any:
        several = (given,) if isinstance(given, str) else given
        return [part for one in several for part in (one.split(",") if isinstance(one, str) else [one])]

    @model_validator(mode="after")
    def _figures_are_asked_for(self) -> Self:
        if self.figures is None:
            for name in ("format", "columns", "fonts"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} is of figures for papers: give figures, the folder to write them into")
        return self


def report(options: ReportOptions, terminal: Terminal) -> Outcome:
    """Write the page and print the scores. :class:`UserError` if no run is named or a folder is none."""
    from folio.errors import UserError
    from folio.evaluation.results import is_evaluation
    from folio.model.find import refuse_searching_run
    from folio.reports.compare import compare_report, distinct_names
    from folio.reports.figures import measured_figures, training_figures
    from folio.reports.papers import require_matplotlib, write_curves, write_figures
    from folio.reports.records import read_run
    from folio.reports.run import run_report

    if not options.runs:
        raise UserError("no run was named", "Name the folder that training wrote: folio report RUN")
    evaluations = [path for path in options.runs if is_evaluation(path)]
    if evaluations and len(options.runs) > 1:
        raise UserError(
            f"'{evaluations[0]}' is an evaluation, and a report shows one of those at a time",
            "Compare evaluations item by item: folio compare A B",
        )
    if evaluations and (options.figures is not None or options.csv is not None):
        raise UserError(
            f"'{evaluations[0]}' is an evaluation, which has no curves of training", "Leave --figures and --csv out."
        )
    if evaluations:
        return _report_evaluation(evaluations[0], options.to, terminal)
    for run in options.runs:
        refuse_searching_run(run)
    if options.figures is not None:
        require_matplotlib()
    if len(options.runs) == 1:
        page = run_report(options.runs[0], options.to)
    else:
        page = compare_report(options.runs, options.to or Path("comparison.html"))
    records = [read_run(run) for run in options.runs]
    names = distinct_names(records)
    wrote, files = [page], list[Path]()
    if options.figures is not None:
        figures = [*training_figures(names, records), *measured_figures(names, records)]
        files = write_figures(
            figures, options.figures, formats=options.format, columns=options.columns, fonts=options.fonts
        )
        wrote.append(options.figures)
    if options.csv is not None:
        wrote.append(write_curves(names, records, options.csv))
    scores = [_scores(record) for record in records]
    columns = ["run", "steps", "tokens", "nats/token", "± standard error", "bits/byte"]
    keys = ["run", "steps", "tokens_seen", "nats_per_token", "standard_error_nats", "bits_per_byte"]
    if any(score["nats_per_pair"] is not None for score in scores):
        columns[4:4], keys[4:4] = ["nats/pair"], ["nats_per_pair"]
        columns, keys = [*columns, "preferred"], [*keys, "accuracy"]
    terminal.table(columns, [[score[key] for key in keys] for score in scores])
    return Outcome(data={"runs": scores, "figures": files}, wrote=tuple(wrote))


def _report_evaluation(path: Path, to: Path | None, terminal: Terminal) -> Outcome:
    from folio.evaluation.results import read_evaluation
    from folio.reports.scores import SCORES, evaluation_report, score_rows

    evaluation = read_evaluation(path)
    page = evaluation_report(evaluation, to)
    terminal.table(SCORES, score_rows(evaluation), title=evaluation.model)
    scores = {name: [one.as_dict() for one in found.scores] for name, found in evaluation.measurements.items()}
    data = {"model": evaluation.model, "evaluation": str(path), "scores": scores}
    return Outcome(data, wrote=(page,), next=(f"folio compare {path} ANOTHER",))


def _scores(record: RunRecord) -> dict[str, object]:
    """A run's best validation and how far it went; null where the run has no such number."""
    best = record.best_validation or {}
    of_text = ("nats_per_token", "standard_error_nats", "perplexity", "bits_per_byte", "tokens")
    keys = (*of_text, "nats_per_pair", "accuracy")
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
        "One page that shows a run or an evaluation, or compares several runs.",
        examples=(
            "folio report runs/demo",
            "folio report runs/a runs/b --to comparison.html",
            "folio report runs/a runs/b --figures figures --format svg png --columns 2",
            "folio report runs/a --csv curves.csv",
            "folio report evaluations/demo",
        ),
    )
}
