"""``folio evaluate MODEL --harness TASKS``: tasks of lm-evaluation-harness on a Folio model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from folio.errors import ConfigError
from folio.verbs.action import Terminal
from folio.verbs.evaluate.tasks import parted

if TYPE_CHECKING:
    from folio.evaluation.harness.adapter import Bar, Write
    from folio.evaluation.harness.tasks import Tasks
    from folio.evaluation.results import Measurement
    from folio.runtime import Runtime
    from folio.verbs.library import Model

WARNINGS = 5
"""How many of the harness's warnings are shown."""
ROUTINE = re.compile("using default (aggregation|higher_is_better)=")
"""What it warns of for most tasks, though nothing is wrong."""


class Asked(Protocol):
    """The options of ``folio evaluate`` that are read here."""

    @property
    def harness(self) -> tuple[str, ...]:
        """Tasks of the harness: names, groups, tags, patterns, or paths of task files; a comma parts two."""

    @property
    def num_fewshot(self) -> int | None:
        """Examples before each item; None is what each task says itself, or none."""

    @property
    def include_path(self) -> Path | None:
        """A folder with task files of one's own."""

    @property
    def limit(self) -> int | None:
        """Only the first so many documents of each task; None is all of them."""


def harness_tasks(options: Asked, terminal: Terminal) -> Tasks:
    """The tasks that ``options`` name, their data read; prints what the harness warned of meanwhile.

    :class:`ConfigError` if they name none; see :func:`folio.evaluation.harness.tasks.load_tasks` for the rest.
    """
    from folio.evaluation.harness.quiet import quietly

    with quietly() as (warned, _):
        tasks = _load(options)
    _tell(warned, terminal)
    return tasks


def _load(options: Asked) -> Tasks:
    from folio.evaluation.harness.tasks import load_tasks

    names = parted(options.harness)
    if not names:
        raise ConfigError("--harness names no task", "Name one, such as piqa.")
    return load_tasks(names, options.include_path)


def run_harness(
    model: Model,
    options: Asked,
    terminal: Terminal,
    runtime: Runtime,
    *,
    tasks: Tasks | None = None,
    poll: Callable[[], None] = lambda: None,
) -> list[Measurement]:
    """Measure ``model`` on the tasks of the harness that ``options`` name; a measurement for each task and each group.

    Prints what the scores do not show: numbers that no items give again, and what the harness warned of.
    ``tasks`` are those of :func:`harness_tasks`, loaded now where there are none. ``poll`` is called between forward
    passes.
    """
    from folio.evaluation.harness.adapter import harness_model
    from folio.evaluation.harness.quiet import quietly
    from folio.evaluation.harness.run import measure_harness

    with quietly() as (warned, aloud):
        loaded = _load(options) if tasks is None else tasks

        @contextmanager
        def progress(description: str, total: int, unit: str) -> Iterator[Bar]:
            with (
                redirect_stdout(aloud.out),
                redirect_stderr(aloud.err),
                terminal.progress(description, total, unit) as bar,
            ):
                yield bar

        lm = harness_model(
            model.gpt, model.tokenizer, _write(model, runtime), autocast=runtime.autocast, progress=progress, poll=poll
        )
        measured = measure_harness(lm, loaded, num_fewshot=options.num_fewshot, limit=options.limit)
    for measurement in measured:
        _show_aggregates(measurement, terminal)
    _tell(warned, terminal)
    return measured


def _tell(warned: Iterable[str], terminal: Terminal) -> None:
    told = [line for line in warned if not ROUTINE.search(line)]
    for line in told[:WARNINGS]:
        terminal.print(f"lm-evaluation-harness: {line}", style="dim")
    if told[WARNINGS:]:
        terminal.print(f"lm-evaluation-harness: and {len(told) - WARNINGS} more warnings", style="dim")


def _write(model: Model, runtime: Runtime) -> Write:
    """Answers by the engine of ``folio generate``, with weights in the precision asked for, made when first needed."""
    from folio.config import build
    from folio.generation.config import GenerationConfig
    from folio.generation.engine import generate
    from folio.verbs.library import Dtype, as_dtype

    dtype: Dtype = runtime.precision if runtime.precision in ("bf16", "fp16") else "fp32"
    writers: list[Any] = []

    def write(prompts: Sequence[Sequence[int]], settings: Mapping[str, Any]) -> list[list[int]]:
        if not writers:
            writers.append(as_dtype(model.gpt, dtype))
        config = build(GenerationConfig, settings)
        return [answer.ids for answer in generate(writers[0], model.tokenizer, prompts, config, model.end_ids)]

    return write


def _show_aggregates(measurement: Measurement, terminal: Terminal) -> None:
    rows = [
        (metric, number["value"], number["standard_error"])
        for metric, number in measurement.facts["aggregates"].items()
    ]
    if rows:
        terminal.table(
            ("metric", "value", "standard error"),
            rows,
            title=f"{measurement.name}: numbers of the whole that its items do not give",
        )
