"""``search.jsonl``: what a search tried, one line for each thing that is finished, appended and never rewritten.

The first line says what is searched; then come a line for each setting at the end of each rung, or one for a sweep; at
the end what was chosen. ``search.json`` says the same for people and other programs, once there is a choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from folio.artifacts import write_file
from folio.checksums import sealed_json
from folio.errors import ArtifactError
from folio.finetuning.search.choice import Choice
from folio.finetuning.search.config import Kind
from folio.finetuning.search.halving import Loss, Result
from folio.finetuning.search.settings import Setting
from folio.training.metrics import MetricsLog, read_metrics
from folio.training.objective import loss_key
from folio.training.rate_curve import Sweep

SEARCH = "search.jsonl"
SUMMARY = "search.json"


@dataclass
class SearchRecord:
    """A search as far as it has come. ``unit`` is what its losses are per; ``budgets`` are in steps, one a setting."""

    kind: Kind
    unit: str
    asked: Mapping[str, Any]
    """What was to be searched with what, as it was begun."""
    settings: list[Setting] = field(default_factory=list)
    budgets: list[int] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    sweep: Sweep | None = None
    choice: Choice | None = None

    def summary(self) -> dict[str, Any]:
        """All of it but the curve of a sweep."""
        return {
            "kind": self.kind,
            **({} if self.choice is None else self.choice.as_dict()),
            "settings": [
                {**setting.as_dict(), "steps": budget}
                for setting, budget in zip(self.settings, self.budgets, strict=True)
            ],
            "results": [_result_line(one, self.unit) for one in self.results],
            "searched": dict(self.asked),
        }


class SearchLog:
    """Appends to a run's ``search.jsonl``; each line is on the disk when the call returns.

    Half a line, left by a kill at the end of the file, is cut off on opening.
    """

    def __init__(self, run: Path, unit: str) -> None:
        self.run, self.unit = run, unit
        self._log = MetricsLog(run / SEARCH)

    def __enter__(self) -> SearchLog:
        return self

    def __exit__(self, *error: object) -> None:
        self._log.close()

    def begin(self, record: SearchRecord) -> None:
        settings = [setting.as_dict() for setting in record.settings]
        self._append(
            "search", 0, search=record.kind, unit=record.unit, settings=settings, steps=record.budgets,
            searched=dict(record.asked),
        )  # fmt: skip

    def result(self, result: Result) -> None:
        self._append(kind="result", **_result_line(result, self.unit))

    def sweep(self, sweep: Sweep, seconds: float) -> None:
        self._append(
            "sweep", len(sweep.losses), learning_rates=sweep.rates, ended=sweep.ended, elapsed_s=seconds,
            **{loss_key(self.unit): sweep.losses, f"untouched_{loss_key(self.unit)}": sweep.untouched},
        )  # fmt: skip

    def choice(self, record: SearchRecord) -> None:
        """What was chosen, here and in ``search.json``."""
        assert record.choice is not None
        self._append("choice", 0, **record.choice.as_dict())
        write_file(self.run / SUMMARY, sealed_json(record.summary()))

    def _append(self, kind: str, step: int, **fields: Any) -> None:
        self._log.log(kind=kind, step=step, **fields)
        self._log.sync()


def read_search(run: Path) -> SearchRecord | None:
    """The search of a run, None if it has none; :class:`ArtifactError` names a damaged line.

    A last line that was torn by a kill is ignored.
    """
    if not (run / SEARCH).is_file():
        return None
    lines = read_metrics(run, SEARCH)
    if not lines:
        return None
    try:
        return _record_of(lines)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"'{run / SEARCH}' is damaged: a line lacks what it should hold ({error})",
            "Restore the file, or remove it to search again.",
        ) from None


def _record_of(lines: list[dict[str, Any]]) -> SearchRecord:
    head = lines[0]
    unit, key = head["unit"], loss_key(head["unit"])
    settings = [Setting(one["setting"], {k: v for k, v in one.items() if k != "setting"}) for one in head["settings"]]
    record = SearchRecord(head["search"], unit, head["searched"], settings, head["steps"])
    for line in lines[1:]:
        match line["kind"]:
            case "result":
                nats = math.nan if line[key] is None else float(line[key])
                loss = Loss(nats, line["standard_error_nats"], line[f"train_{key}"])
                record.results.append(
                    Result(line["setting"], line["rung"], line["step"], loss, line["elapsed_s"], line["lost"])
                )
            case "sweep":
                rates, losses, untouched = (
                    tuple(line[name]) for name in ("learning_rates", key, f"untouched_{key}")
                )  # fmt: skip
                record.sweep = Sweep(rates, losses, untouched, line["ended"])
            case "choice":
                record.choice = Choice(line["values"], line["reason"], tuple(line["notes"]))
    return record


def _result_line(result: Result, unit: str) -> dict[str, Any]:
    loss, key = result.loss, loss_key(unit)
    return {
        "step": result.step,
        "setting": result.setting,
        "rung": result.rung,
        key: loss.nats if math.isfinite(loss.nats) else None,
        "standard_error_nats": loss.standard_error,
        f"train_{key}": loss.train_nats,
        "elapsed_s": result.seconds,
        "lost": result.lost,
    }
